"""The values that users make: `AppMonitor`, `Session`, `Event`."""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

import orjson

from rumbuffer.core.encoding import UUID_RULE, embedded_json, is_uuid, shape_of
from rumbuffer.errors import InvalidEvent, InvalidSetting

if TYPE_CHECKING:
    from rumbuffer.core.lanes import OpenBatch

__all__ = ["NIL_USER_ID", "AppMonitor", "Event", "Session", "current_session"]

NIL_USER_ID = "00000000-0000-0000-0000-000000000000"
"""What the browser client sends as the user's id where it may not set cookies."""


@dataclass(frozen=True, slots=True)
class AppMonitor:
    """The CloudWatch RUM resource that receives events.

    `id` is its UUID. `name` and `version` (of your application) travel in `AppMonitorDetails`;
    `alias` (1 to 255 characters) is for app monitors whose resource policy demands one. Raises
    `InvalidSetting`.
    """

    id: str
    name: str | None = None
    version: str | None = None
    alias: str | None = None
    envelope: tuple[bytes, bytes] = field(init=False, repr=False, compare=False)
    """The constant bytes before `userId` and after the events in a request's body."""

    def __post_init__(self) -> None:
        if not (isinstance(self.id, str) and is_uuid(self.id)):
            raise InvalidSetting("AppMonitor.id", UUID_RULE, shape_of(self.id))
        details = {"id": self.id}
        for name in ("name", "version"):
            value = getattr(self, name)
            if value is not None:
                _check_text(f"AppMonitor.{name}", value, 0, None)
                details[name] = value
        tail = b"]"
        if self.alias is not None:
            _check_text("AppMonitor.alias", self.alias, 1, 255)
            tail += b',"Alias":' + orjson.dumps(self.alias)
        head = b'","AppMonitorDetails":' + orjson.dumps(details) + b',"UserDetails":{'
        object.__setattr__(self, "envelope", (head, tail))


def _check_text(name: str, value: object, shortest: int, longest: int | None) -> None:
    rule = (
        "must be a string" if longest is None else f"must be a string of {shortest} to {longest} characters"
    )
    if not isinstance(value, str) or len(value) < shortest or (longest is not None and len(value) > longest):
        raise InvalidSetting(name, rule, shape_of(value))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidSetting(
            name, "must be text that UTF-8 can hold (no lone surrogates)", shape_of(value)
        ) from None


class Session:
    """One user's visit: what events are batched by.

    `id` and `user_id` are UUIDs; `user_id` defaults to the nil UUID, as the browser client's does
    without cookies. `attributes` (a mapping, or the JSON text of one) hold for every event of the
    session and travel once a batch, as `SessionMetadata`. Immutable; equal by value. Raises
    `InvalidEvent`.
    """

    # The ids are cut out of the key when they are asked for, which is once a batch: where a million sessions
    # are live, the two strings would take 200 bytes of each.
    __slots__ = ("_batch", "_sample_point", "encoded_attributes", "key")

    key: str
    """What its events are grouped by, within an app monitor: the session's id and the user's."""
    encoded_attributes: bytes | None
    """The attributes as they stand in a request's body."""
    _sample_point: float | None
    _batch: OpenBatch | None
    """The session's newest open batch, where this very object opened it and more of its events came: with a
    million live sessions, a look-up by the key is three cache misses. The lane takes it out of here again."""

    def __init__(
        self,
        id: str,
        user_id: str = NIL_USER_ID,
        attributes: Mapping[str, Any] | str | None = None,
    ) -> None:
        if not (isinstance(id, str) and is_uuid(id)):
            raise InvalidEvent("session.id", UUID_RULE, shape_of(id))
        if not (isinstance(user_id, str) and is_uuid(user_id)):
            raise InvalidEvent("session.user_id", UUID_RULE, shape_of(user_id))
        put = object.__setattr__
        put(self, "key", id + user_id)
        encoded = embedded_json("session.attributes", attributes) if attributes else None
        put(self, "encoded_attributes", encoded)
        put(self, "_sample_point", None)
        put(self, "_batch", None)

    @classmethod
    def new(cls, *, user_id: str = NIL_USER_ID, attributes: Mapping[str, Any] | str | None = None) -> Self:
        """Make a session with a random id."""
        return cls(str(uuid.uuid4()), user_id, attributes)

    @property
    def id(self) -> str:
        """The session's id, a UUID."""
        return self.key[:36]

    @property
    def user_id(self) -> str:
        """The user's id, a UUID."""
        return self.key[36:]

    @property
    def attributes(self) -> dict[str, Any] | None:
        """The attributes, read anew from what is sent: a session may be kept for long, and they add up."""
        if self.encoded_attributes is None:
            return None
        attributes: dict[str, Any] = json.loads(orjson.loads(self.encoded_attributes))
        return attributes

    @property
    def sample_point(self) -> float:
        """Where the session falls in [0, 1): it is kept while this is below the sample rate.

        CRC-32 of the id, so that every process that meets the session decides alike.
        """
        point = self._sample_point
        if point is None:
            point = zlib.crc32(self.id.encode()) / 4294967296
            object.__setattr__(self, "_sample_point", point)
        return point

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Session is immutable; make another to change {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Session is immutable; {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Session):
            return NotImplemented
        return self.key == other.key and self.encoded_attributes == other.encoded_attributes

    def __hash__(self) -> int:
        return hash(self.key)

    def __reduce__(self) -> tuple[type[Session], tuple[object, ...]]:
        text = None if self.encoded_attributes is None else orjson.loads(self.encoded_attributes)
        return type(self), (self.id, self.user_id, text)

    def __repr__(self) -> str:
        return f"Session(id={self.id!r})"


keep_batch: Callable[[Session, OpenBatch | None], None] = Session.__dict__["_batch"].__set__
"""Sets a session's batch, which is the core's to say; for less than `object.__setattr__`."""


class Event:
    """One RUM record, checked when it is admitted.

    `type` matches ``[a-zA-Z0-9_.-]{1,256}``; `details` and `metadata` are mappings, or JSON texts
    that hold an object. `id` is a UUID, random when left out; `timestamp` is in seconds since the
    epoch or a `datetime` (a naive one means UTC, as botocore takes it), now when left out.
    """

    __slots__ = ("details", "id", "metadata", "timestamp", "type")

    def __init__(
        self,
        type: str,
        details: Mapping[str, Any] | str,
        *,
        metadata: Mapping[str, Any] | str | None = None,
        id: str | None = None,
        timestamp: float | datetime | None = None,
    ) -> None:
        self.type: str = type
        self.details: Mapping[str, Any] | str = details
        self.metadata: Mapping[str, Any] | str | None = metadata
        self.id: str | None = id
        self.timestamp: float | datetime | None = timestamp

    def __repr__(self) -> str:
        return f"Event({self.type!r})"


current_session: ContextVar[Session | None] = ContextVar("rumbuffer.current_session", default=None)
"""The session of the request that is being served, used where `session` is left out."""
