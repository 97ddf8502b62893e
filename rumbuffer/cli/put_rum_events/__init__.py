"""`rumbuffer put-rum-events`: what `aws rum put-rum-events` does, with its options, errors and exit statuses.

    command.py     the click command: help, completion, what happens in which order
    options.py     the options, and reading a command line as the AWS CLI reads it
    failures.py    the kinds of failure, and the exit status of each
    values.py      an option's value: JSON, shorthand, or a reference to a file
    shorthand.py   the shorthand syntax
    request.py     values to a checked request; what was left out is filled in
    skeletons.py   `--generate-cli-skeleton`
    call.py        the one request

Behaviour was compared with aws-cli 1.46.3, and with 2.36.7 where `v2` is said (2026-11).
"""

from rumbuffer.cli.put_rum_events.command import put_rum_events

__all__ = ["put_rum_events"]
