"""Our bytes against botocore's own serialiser, over generated events."""

from __future__ import annotations

import math
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from rumbuffer.core.encoding import EventEncoder
from rumbuffer.core.sealed import SealedBatch
from rumbuffer.events import AppMonitor, Session

_MODEL = ServiceModel(Loader().load_service_model("rum", "service-2"), "rum").operation_model("PutRumEvents")
_SERIALIZER = create_serializer("rest-json", include_validation=True)
_KNOWS_ATTRIBUTES = "SessionMetadata" in _MODEL.input_shape.members

_text = st.text(max_size=20)
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=12,
)
_objects = st.dictionaries(_text, _json, max_size=5)
_contents = _objects | _objects.map(lambda value: orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
_zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
# To the millisecond: what is finer, we round and botocore does not.
_timestamps = (
    st.integers(0, 4_000_000_000)
    | st.integers(0, 4_000_000_000_000).map(lambda milliseconds: milliseconds / 1000)
    | st.datetimes(datetime(1970, 1, 3), datetime(2100, 1, 1), timezones=st.one_of(st.none(), _zones)).map(
        lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000, fold=0)
    )
)
_ids = st.uuids().map(str)
_events = st.fixed_dictionaries(
    {
        "id": _ids,
        "timestamp": _timestamps,
        "type": st.from_regex(r"[a-zA-Z0-9_.-]{1,40}", fullmatch=True),
        "details": _contents,
    },
    optional={"metadata": _contents},
)
_monitors = st.builds(
    AppMonitor,
    _ids,
    name=st.none() | _text,
    version=st.none() | _text,
    alias=st.none() | st.text(min_size=1, max_size=20),
)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _theirs(
    batch_id: str, monitor: AppMonitor, session: Session, attributes: Any, events: list[dict[str, Any]]
) -> dict[str, Any]:
    details = {"id": monitor.id, "name": monitor.name, "version": monitor.version}
    parameters: dict[str, Any] = {
        "Id": monitor.id,
        "BatchId": batch_id,
        "AppMonitorDetails": {name: value for name, value in details.items() if value is not None},
        "UserDetails": {"userId": session.user_id, "sessionId": session.id},
        "RumEvents": [
            {
                name: _as_text(value) if name in {"details", "metadata"} else value
                for name, value in event.items()
            }
            for event in events
        ],
    }
    if monitor.alias is not None:
        parameters["Alias"] = monitor.alias
    if attributes and _KNOWS_ATTRIBUTES:
        parameters["SessionMetadata"] = _as_text(attributes)
    document: dict[str, Any] = orjson.loads(_SERIALIZER.serialize_to_request(parameters, _MODEL)["body"])
    if attributes and not _KNOWS_ATTRIBUTES:
        document["SessionMetadata"] = _as_text(attributes)
    return document


def _ours(
    batch_id: str, monitor: AppMonitor, session: Session, events: list[dict[str, Any]]
) -> dict[str, Any]:
    encoder = EventEncoder(10**9)
    encoded = tuple(
        encoder.encode_given(
            event["type"], event["details"], event.get("metadata"), event["id"], event["timestamp"]
        )
        for event in events
    )
    sealed = SealedBatch(batch_id, monitor, session.id, session.user_id, session.encoded_attributes, encoded)
    document: dict[str, Any] = orjson.loads(sealed.body())
    return document


def _whole_seconds(document: dict[str, Any]) -> dict[str, Any]:
    """Older versions of botocore drop the fraction of a timestamp."""
    for event in document["RumEvents"]:
        event["timestamp"] = math.floor(event["timestamp"])
    return document


_half = [
    {
        "id": str(uuid.UUID(int=0)),
        "timestamp": datetime(2026, 1, 1, 0, 0, 0, 500_000, UTC),
        "type": "x",
        "details": "{}",
    }
]
_DROPS_FRACTIONS = (
    _theirs(
        str(uuid.UUID(int=0)), AppMonitor(str(uuid.UUID(int=0))), Session(str(uuid.UUID(int=0))), None, _half
    )["RumEvents"][0]["timestamp"]
    % 1
    == 0
)


@given(
    _ids,
    _monitors,
    st.tuples(_ids, _ids, st.none() | _contents),
    st.lists(_events, max_size=4),
)
def test_the_document_is_botocores(
    batch_id: str, monitor: AppMonitor, visit: tuple[str, str, Any], events: list[dict[str, Any]]
) -> None:
    """The body holds the document that botocore's serialiser makes of the same values."""
    session = Session(*visit)
    ours = _ours(batch_id, monitor, session, events)
    theirs = _theirs(batch_id, monitor, session, visit[2], events)
    if _DROPS_FRACTIONS:
        ours = _whole_seconds(ours)
    assert ours == theirs
