"""The errors of PutRumEvents, as botocore raises them: each a `ClientError` with the service's code.

    botocore.exceptions.ClientError
    ├── ThrottlingException        the quota, or the buffer's memory, had no room in time
    ├── InternalServerException    failures, or no answer; the events may have arrived
    ├── ValidationException        the service refuses the content
    ├── AccessDeniedException      no permission for this app monitor
    └── ResourceNotFoundException  no such app monitor in this account and region

`response` is laid out as botocore's: ``Error`` with ``Code`` and ``Message``, ``ResponseMetadata``, and the
members of the service's model (``retryAfterSeconds`` where it is known). Where events were on their way,
``LostEventIds`` names those of the call that were not delivered as far as is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import botocore.exceptions

if TYPE_CHECKING:  # botocore ships no types

    class ClientError(Exception):
        """botocore's, as far as it matters."""

        response: dict[str, Any]
        operation_name: str

        def __init__(self, error_response: Mapping[str, object], operation_name: str) -> None: ...

else:
    from botocore.exceptions import ClientError

__all__ = [
    "AccessDeniedException",
    "Exceptions",
    "InternalServerException",
    "ResourceNotFoundException",
    "ThrottlingException",
    "ValidationException",
    "client_error",
    "hold_error",
]

_OPERATION = "PutRumEvents"

_ClientError: TypeAlias = ClientError


class _ServiceError(ClientError):
    """An error of the service's model. `status` is its HTTP status."""

    status: ClassVar[int]

    def __reduce__(self) -> tuple[type[_ServiceError], tuple[dict[str, Any], str]]:
        return type(self), (self.response, self.operation_name)


class ThrottlingException(_ServiceError):
    """429: the quota is spent, or the buffer has no room. The same call may do later."""

    status = 429


class InternalServerException(_ServiceError):
    """500: the service failed, or nobody knows whether it took the events."""

    status = 500


class ValidationException(_ServiceError):
    """400: the service refuses the content; repeating the call does not help."""

    status = 400


class AccessDeniedException(_ServiceError):
    """403: no permission for `rum:PutRumEvents` on this app monitor."""

    status = 403


class ResourceNotFoundException(_ServiceError):
    """404: no such app monitor in this account and region."""

    status = 404


_CLASSES: dict[str, type[_ServiceError]] = {
    kind.__name__: kind
    for kind in (
        ThrottlingException,
        InternalServerException,
        ValidationException,
        AccessDeniedException,
        ResourceNotFoundException,
    )
}


class Exceptions:
    """A client's `exceptions`: the classes by their names in the service's model, and `from_code`."""

    ClientError: type[_ClientError] = ClientError
    ThrottlingException: type[ThrottlingException] = ThrottlingException
    InternalServerException: type[InternalServerException] = InternalServerException
    ValidationException: type[ValidationException] = ValidationException
    AccessDeniedException: type[AccessDeniedException] = AccessDeniedException
    ResourceNotFoundException: type[ResourceNotFoundException] = ResourceNotFoundException

    def from_code(self, error_code: str) -> type[_ClientError]:
        """Return the class for an error's code; `ClientError` for one that is not in the model."""
        return _CLASSES.get(error_code, ClientError)


def client_error(
    code: str,
    message: str,
    members: Mapping[str, object] = MappingProxyType({}),
    *,
    retry_after: float | None = None,
) -> Exception:
    """Make the error for a code, with what else its response holds.

    `retry_after` is in seconds, and is rounded up: the model has an integer there.
    """
    kind = _CLASSES.get(code, ClientError)
    response: dict[str, object] = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": _status(code), "HTTPHeaders": {}, "RetryAttempts": 0},
        "message": message,
        **members,
    }
    if retry_after is not None:
        response["retryAfterSeconds"] = math.ceil(retry_after)
    return kind(response, _OPERATION)


def _status(code: str) -> int:
    if code in _CLASSES:
        return _CLASSES[code].status
    # What is not in the model comes from a proxy, or the authentication that stands before every service.
    return int(code) if code.isdecimal() else 403


def hold_error(code: str, message: str, members: Mapping[str, object]) -> Exception:
    """Make the error that a call would have raised which met what the hold is for.

    `code` is the service's, a status without one, or a class of botocore's that stopped the call before it
    was sent: that class is raised where it needs no more to be told (`NoCredentialsError`).
    """
    kind = getattr(botocore.exceptions, code, None)
    if isinstance(kind, type) and issubclass(kind, botocore.exceptions.BotoCoreError) and _is_told(kind):
        error: Exception = kind()
        error.add_note(message)
        return error
    return client_error(code.removeprefix("HTTP "), message, members)


def _is_told(kind: Any) -> bool:
    """Whether the text of a class of botocore's has no gaps to be filled."""
    return "{" not in kind.fmt
