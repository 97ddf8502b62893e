"""What the service says: answers, and the errors of its REST-JSON protocol.

An error is a status, the header ``x-amzn-ErrorType`` with its name and a JSON
body with its members. The names, statuses and members of the first block are
botocore's model of PutRumEvents; those of the second are AWS's errors for
authentication and routing, which every service shares and no model lists.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer: status, headers beside the general ones, body.

    ``shared``: pages of other origins may read it. The service's answers are,
    errors too, since browsers post to the service directly, and one that cannot
    read an error takes it for a network fault and tries again.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    shared: bool = True

    def head(self, request_id: str, *, keep_alive: bool) -> bytes:
        """The status line and headers as they go over the wire."""
        try:
            reason = HTTPStatus(self.status).phrase
        except ValueError:
            reason = "Unknown"
        lines = [f"HTTP/1.1 {self.status} {reason}"]
        headers = {"Content-Type": "application/json", **self.headers}
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if self.shared:
            lines.append("Access-Control-Allow-Origin: *")
        lines += [f"x-amzn-RequestId: {request_id}", f"Content-Length: {len(self.body)}"]
        if not keep_alive:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


SUCCESS = Answer(200, b"{}")

PREFLIGHT = Answer(
    200,
    headers={
        "Access-Control-Allow-Methods": "POST, OPTIONS",
        "Access-Control-Allow-Headers": (
            "content-type, content-encoding, authorization, "
            "x-amz-date, x-amz-content-sha256, x-amz-security-token"
        ),
        "Access-Control-Max-Age": "600",
    },
)


class ServiceError(Exception):
    """A refusal, with what the client gets to see of it."""

    def __init__(self, status: int, code: str, message: str, **members: str) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message
        self.members = members
        self.headers: dict[str, str] = {}

    def __str__(self) -> str:
        return f"{self.code} ({self.status}): {self.message}"

    @property
    def answer(self) -> Answer:
        """The error as the service's HTTP answer."""
        body = json.dumps({"message": self.message, **self.members}).encode()
        return Answer(self.status, body, {"x-amzn-ErrorType": self.code, **self.headers})


def validation(message: str) -> ServiceError:
    """400: the request breaks a constraint."""
    return ServiceError(400, "ValidationException", message)


def access_denied(app_monitor_id: str) -> ServiceError:
    """403: the caller may not send to this app monitor."""
    return ServiceError(
        403,
        "AccessDeniedException",
        f"User is not authorized to perform: rum:PutRumEvents on resource: {app_monitor_id}",
    )


def resource_not_found(app_monitor_id: str) -> ServiceError:
    """404: no such app monitor."""
    return ServiceError(
        404,
        "ResourceNotFoundException",
        f"App monitor {app_monitor_id} was not found.",
        resourceName=app_monitor_id,
        resourceType="AppMonitor",
    )


def throttling(retry_after: int | None) -> ServiceError:
    """429: over the quota. The real quota's code has no public source; this one is made up."""
    error = ServiceError(
        429, "ThrottlingException", "Rate exceeded", serviceCode="rum", quotaCode="L-00000000"
    )
    if retry_after is not None:
        error.headers["Retry-After"] = str(retry_after)
    return error


def internal(status: int = 500) -> ServiceError:
    """5xx: the service's own fault."""
    names = {503: "ServiceUnavailableException"}
    return ServiceError(status, names.get(status, "InternalServerException"), "Internal server error")


def too_large() -> ServiceError:
    """413 as a front end answers it: no error name, no members."""
    return _Plain(413, "RequestEntityTooLarge", "Request Entity Too Large")


def unauthorized(code: str, message: str) -> ServiceError:
    """403 of the authentication that stands before every AWS service."""
    return ServiceError(403, code, message)


def unknown_operation(status: int) -> ServiceError:
    """404 or 405: no operation at this path, or not with this method."""
    return ServiceError(status, "UnknownOperationException", "The operation is not known.")


class _Plain(ServiceError):
    """An error that carries its status only."""

    @property
    def answer(self) -> Answer:
        return Answer(self.status, self.message.encode(), {"Content-Type": "text/plain"})
