"""The command group: what `rumbuffer --help` shows."""

from __future__ import annotations

import click

import rumbuffer
from rumbuffer.cli.bench import bench
from rumbuffer.cli.completion import completion
from rumbuffer.cli.demo import demo
from rumbuffer.cli.emulator import emulator
from rumbuffer.cli.put_rum_events import put_rum_events
from rumbuffer.cli.send import send

__all__ = ["root"]

_HELP = """\
An event buffer for CloudWatch RUM, and a local RUM service to try it against.

\b
Where to begin:
  rumbuffer demo              watch the buffer at work; needs no AWS account
  rumbuffer emulator          a RUM service on this machine, for your own program
  rumbuffer put-rum-events    one request, as the AWS CLI sends it
  rumbuffer send              files of events, in bulk and resumable
  rumbuffer bench             measure the buffer under a load of yours

\b
Then:
  rumbuffer COMMAND --help                     what a command does, with examples
  rumbuffer completion bash >> ~/.bashrc       complete commands and options with the Tab key
"""


@click.group(
    help=_HELP, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(rumbuffer.__version__, package_name="rumbuffer", message="%(prog)s %(version)s")
@click.pass_context
def root(context: click.Context) -> None:
    """Show the help where no command is given."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


root.add_command(bench)
root.add_command(demo)
root.add_command(emulator)
root.add_command(put_rum_events)
root.add_command(completion)
root.add_command(send)
