"""`rumbuffer demo`: visitors, a buffer, and a RUM service with faults, on this machine alone."""

from __future__ import annotations

import click

__all__ = ["demo"]


@click.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.0, min_open=True),
    default=60.0,
    show_default=True,
    metavar="N",
    help="How long visitors come; what is pending then is delivered afterwards.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document at the end; the rest to stderr."
)
@click.option("--no-live", is_flag=True, help="Print a line every few seconds in place of the live view.")
def demo(seconds: float, as_json: bool, no_live: bool) -> int:  # noqa: FBT001 - click passes by name
    """Show the buffer at work against a local RUM service with faults.

    Thousands of visitors replay what a real browser sent; their events go through a RumBuffer, over a
    real socket, into an emulator with the service's default quota. At the end every accepted event is
    looked for in what the emulator kept. The exit status is 0 only if all of them arrived as they were
    accepted, and what arrived twice was the same batch with the same body.

    Needs no AWS account, and sends nothing to AWS: credentials, profiles and proxies of yours are left
    aside.
    """
    from rumbuffer.cli.demo.command import run_demo

    return run_demo(seconds, as_json=as_json, live=not no_live)
