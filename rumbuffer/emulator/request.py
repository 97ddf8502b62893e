"""A request as it came over the wire, free of the server that received it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Request:
    """Method, target, headers and body, all as received.

    ``target`` may be in absolute form (``http://host/path``), as clients send it
    to a proxy. Header names match without regard to case.
    """

    method: str
    target: str
    raw_headers: Iterable[tuple[bytes, bytes]] = ()
    body: bytes = b""
    path: str = field(init=False)
    query: str = field(init=False)
    _headers: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.path, _, self.query = _origin_form(self.target).partition("?")
        self._headers = {}
        for name, value in self.raw_headers:
            # UTF-8 where it is, and never a failure over what isn't.
            text = value.decode("utf-8", "surrogateescape")
            self._headers.setdefault(name.decode("latin-1").lower(), []).append(text)

    def header(self, name: str) -> str | None:
        """The first value of a header, by its name in lower case."""
        values = self._headers.get(name)
        return values[0] if values else None

    def all_headers(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return self._headers.get(name, [])


def _origin_form(target: str) -> str:
    if target.startswith("/"):
        return target
    _, separator, rest = target.partition("://")
    if not separator:
        return target
    slash = rest.find("/")
    return rest[slash:] if slash >= 0 else "/"
