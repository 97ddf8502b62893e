"""Event types of the user's own, declared as classes."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, dataclass_transform

from rumbuffer.builtin.schemas import check_metadata
from rumbuffer.errors import InvalidEvent
from rumbuffer.events import Event

__all__ = ["CustomEvent"]

_RESERVED = "com.amazon."
_TAKEN = frozenset(("details", "id", "metadata", "timestamp", "type"))


@dataclass_transform(kw_only_default=True)
class CustomEvent(Event):
    """An event type of your own, declared as a class with annotated members, as a dataclass is.

    The members are the details. `metadata`, `id` and `timestamp` are an event's own; set them on the
    event. A class without a `type` is a base for others. Raises `TypeError` where a class is declared with
    a name that an event has itself, and `InvalidEvent` at admission.
    """

    event_type: ClassVar[str] = ""

    def __init_subclass__(cls, *, type: str | None = None, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        taken = _TAKEN & inspect.get_annotations(cls).keys()
        if taken:
            raise TypeError(
                f"{cls.__name__}: every event has {', '.join(sorted(taken))}; choose another name"
            )
        if type is not None:
            cls.event_type = type
        dataclasses.dataclass(kw_only=True, repr=False, eq=False)(cls)

    def __post_init__(self) -> None:
        self.type: str = self.event_type
        self.metadata: Mapping[str, Any] | str | None = None
        self.id: str | None = None
        self.timestamp: float | datetime | None = None

    @property
    def metadata(self) -> Mapping[str, Any] | str | None:
        """The metadata; raises `InvalidEvent` where it breaks a rule."""
        if self._metadata is not None:
            check_metadata(_read(self._metadata))
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: Mapping[str, Any] | str | None) -> None:
        self._metadata = metadata

    @property
    def details(self) -> Mapping[str, Any] | str:
        """The members; raises `InvalidEvent` for a type that is the service's own."""
        if self.event_type.startswith(_RESERVED):
            raise InvalidEvent(
                "type", f"must not begin with {_RESERVED}, which is the service's", "one that does"
            )
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    @details.setter
    def details(self, details: Mapping[str, Any] | str) -> None:
        raise AttributeError("the details of a CustomEvent are its members")


def _read(metadata: Mapping[str, Any] | str) -> object:
    """Return what the JSON text of metadata holds."""
    if not isinstance(metadata, str):
        return metadata
    try:
        return json.loads(metadata)
    except (ValueError, RecursionError):
        return metadata
