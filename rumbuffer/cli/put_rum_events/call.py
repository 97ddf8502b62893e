"""The one request: sent by `AwsSender`, and what came of it told in the AWS CLI's words.

The sender makes the client, finds the endpoint and judges answers; beside its outcome stands what the
service or botocore said, which handlers on botocore's events note.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from rumbuffer.aws.answers import shown
from rumbuffer.aws.sender import AwsSender
from rumbuffer.cli.put_rum_events.failures import Failure, Kind
from rumbuffer.core.outcomes import Delivered, Failed, Misconfigured, Outcome, Throttled
from rumbuffer.core.retry import backoff

if TYPE_CHECKING:
    from rumbuffer.cli.put_rum_events.request import Request
    from rumbuffer.core.sealed import SealedBatch

__all__ = ["Connection", "logged_to_stderr", "send"]

_OPERATION: Final = "PutRumEvents"
_HINTS: Final = {
    "NoRegionError": "name a region with --region, set AWS_REGION, or give the profile one",
}
_TEXTS: Final = {"NoRegionError": "You must specify a region."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to reach the service; `None` is botocore's choice. Timeouts are in seconds, 0 for none."""

    region: str | None
    profile: str | None
    endpoint_url: str | None
    sign: bool
    verify: str | bool | None
    read_timeout: int
    connect_timeout: int


async def send(request: Request, connection: Connection) -> None:
    """Send the request once, or as often as AWS_MAX_ATTEMPTS or the profile says. Raises `Failure`."""
    try:
        session = _session_for(connection)
        tries = _tries(session.get_config_variable("max_attempts"))
    except Exception as error:  # noqa: BLE001 - whatever the configuration files break
        raise Failure(Kind.OTHER, str(error)) from None
    said = _Said(session)
    sender = AwsSender(
        region_name=connection.region,
        endpoint_url=connection.endpoint_url,
        session=session,
        client_config=_config_for(connection),
    )
    try:
        await sender.start(max_in_flight=1)
        outcome = await _send(sender, request, said, tries)
    finally:
        await sender.aclose()
    if not isinstance(outcome, Delivered):
        raise said.failure(outcome)


def _tries(max_attempts: object) -> int:
    tries = 1 if max_attempts is None else int(str(max_attempts))
    if tries < 1:  # in botocore's words
        raise ValueError(
            f'Value provided to "max_attempts": {tries} must be an integer greater than or equal to 1.'
        )
    return tries


async def _send(sender: AwsSender, request: Request, said: _Said, tries: int) -> Outcome:
    batch = cast("SealedBatch", _Given(_AppMonitor(request.app_monitor_id), request.body))
    failures = 0
    while True:
        said.forget()
        outcome = await sender.send(batch)
        failures += 1
        if failures >= tries or not isinstance(outcome, (Throttled, Failed)):
            return outcome
        wait = outcome.retry_after
        await asyncio.sleep(backoff(failures, 1.0, 20.0, random.random()) if wait is None else wait)


@dataclass(frozen=True, slots=True)
class _AppMonitor:
    id: str


@dataclass(frozen=True, slots=True)
class _Given:
    """What the sender asks of a batch, for one that was given as a whole and may break rules."""

    app_monitor: _AppMonitor
    content: bytes

    def body(self) -> bytes:
        return self.content


def _session_for(connection: Connection) -> Any:
    from aiobotocore.session import AioSession

    session = AioSession(profile=connection.profile)
    if connection.verify is not None:
        session.set_config_variable("ca_bundle", connection.verify)
    return session


def _config_for(connection: Connection) -> Any:
    from aiobotocore.config import AioConfig
    from botocore import UNSIGNED

    settings: dict[str, Any] = {} if connection.sign else {"signature_version": UNSIGNED}
    return AioConfig(
        read_timeout=connection.read_timeout or None,
        connect_timeout=connection.connect_timeout or None,
        **settings,
    )


class _Said:
    """What the service or botocore said of the latest try."""

    def __init__(self, session: Any) -> None:
        self._answer: dict[str, Any] | None = None
        self._error: Exception | None = None
        session.register(f"after-call.rum.{_OPERATION}", self._note_answer)
        session.register(f"after-call-error.rum.{_OPERATION}", self._note_error)

    def forget(self) -> None:
        self._answer = self._error = None

    def _note_answer(self, parsed: dict[str, Any], **_: object) -> None:
        self._answer = parsed

    def _note_error(self, exception: Exception, **_: object) -> None:
        self._error = exception

    def failure(self, outcome: Outcome) -> Failure:
        from botocore.exceptions import ClientError

        error = self._error
        told = (self._answer or {}).get("Error")
        if told:
            error = ClientError(self._answer, _OPERATION)
        if error is None:
            return _without_error(outcome)
        hint = _hint(outcome, shown(str((told or {}).get("Message", ""))))
        return Failure(_kind(type(error).__name__, error), str(error), "" if hint in str(error) else hint)


def _kind(name: str, error: Exception | None = None) -> Kind:
    if name in {"NoRegionError", "NoCredentialsError"}:
        return Kind.CONFIGURATION
    return Kind.SERVICE if hasattr(error, "operation_name") else Kind.OTHER


def _without_error(outcome: Outcome) -> Failure:
    """The client could not be made, or the answer was none of the service's."""
    if isinstance(outcome, Misconfigured):
        code = outcome.code
        return Failure(_kind(code), _TEXTS.get(code, outcome.message), _HINTS.get(code, ""))
    return Failure(Kind.OTHER, outcome.reason if isinstance(outcome, Failed) else f"{outcome}")


def _hint(outcome: Outcome, told: str) -> str:
    if isinstance(outcome, Misconfigured):
        return outcome.message.replace(f": {told}", "") if told else outcome.message
    if isinstance(outcome, (Throttled, Failed)) and outcome.retry_after is not None:
        return f"the service asks to wait {outcome.retry_after:g} s"
    return ""


# --debug -----------------------------------------------------------------------------------------------

_SECRET = re.compile(
    r"""(?ix) (x-amz-security-token['"]? \s* [:=] \s* (?:b?['"])?) [\w+/=%-]+"""
    r"""| (://) [^/@\s'"]+ (?=@)  # user and password of a URL"""
)


@contextmanager
def logged_to_stderr() -> Iterator[None]:
    """Log what botocore and rumbuffer do to standard error, without session tokens and URLs' passwords."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Masked("%(asctime)s - %(threadName)s - %(name)s - %(levelname)s - %(message)s"))
    loggers = [logging.getLogger(name) for name in ("aiobotocore", "botocore", "rumbuffer")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


class _Masked(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _SECRET.sub(r"\1\2…", super().format(record))
