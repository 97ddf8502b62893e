"""`rumbuffer completion`: the script that teaches a shell to complete the command."""

from __future__ import annotations

import click

__all__ = ["completion"]


@click.command(short_help="Print the script that completes commands in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete `rumbuffer`: commands, options, their values.

    \b
    To have it in every new shell, once:
      bash   rumbuffer completion bash >> ~/.bashrc
      zsh    rumbuffer completion zsh >> ~/.zshrc        (after compinit)
      fish   rumbuffer completion fish > ~/.config/fish/completions/rumbuffer.fish
    """  # noqa: D301 - click marks a paragraph with a backspace
    from click.shell_completion import get_completion_class

    maker = get_completion_class(shell)
    assert maker is not None
    root = context.find_root()
    click.echo(maker(root.command, {}, "rumbuffer", "_RUMBUFFER_COMPLETE").source(), nl=False)
