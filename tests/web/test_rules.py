"""The tests' own statement of the service's rules: what it lets through, and what not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rumbuffer import InvalidEvent
from rumbuffer.builtin import TraceSubsegment, XrayTraceEvent
from tests.web.helpers import XRAY
from tests.web.rules import faults_of

TRACE = "1-5759e988-bd862e3fe1be46a994272793"
SEGMENT: dict[str, Any] = {"name": "shop", "id": "53995c3f42cd8ad8", "trace_id": TRACE, "start_time": 1.5}
PART: TraceSubsegment = {"name": "db", "id": "53995c3f42cd8ad9", "start_time": 1.6}


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"version": "1.0.0", "user": "x", "origin": "AWS::EC2", "in_progress": False, "end_time": 2},
        {"cause": {}},
        {"cause": {"exceptions": [{}, {"id": "x", "remote": True, "truncated": 1, "cause": "y"}]}},
        {"cause": {"exceptions": [{"stack": [{"class_name": "A", "line": 7, "method_name": "b"}]}]}},
        {"annotations": {"tier": "gold", "n": 1}, "metadata": {"a": {"b": [1]}}},
        {"subsegments": []},
        {"subsegments": [PART, {**PART, "type": "subsegment", "namespace": "aws", "subsegments": [PART]}]},
    ],
)
def test_segments_that_keep_the_rules(members: dict[str, Any]) -> None:
    """What the schema allows has no faults, and the library admits it."""
    details = {**SEGMENT, **members}
    assert faults_of(XRAY, json.dumps(details), None) == []
    assert event_of(details).details == details


@pytest.mark.parametrize(
    "members",
    [
        {"cause": []},
        {"cause": {"other": 1}},
        {"cause": {"exceptions": {}}},
        {"cause": {"exceptions": [{"truncated": 1.5}]}},
        {"cause": {"exceptions": [{"remote": "yes"}]}},
        {"cause": {"exceptions": [{"stack": [{"line": "7"}]}]}},
        {"cause": {"exceptions": [{"stack": [{"lineno": 7}]}]}},
        {"annotations": []},
        {"metadata": "x"},
        {"subsegments": {}},
        {"subsegments": [{"name": "db", "id": "x"}]},
        {"subsegments": [{**PART, "user": "x"}]},
        {"subsegments": [{**PART, "subsegments": [{**PART, "error": 1}]}]},
        {"id": None},
        {"name": 7},
        {"other": 7},
    ],
)
def test_segments_that_break_a_rule(members: dict[str, Any]) -> None:
    """What the schema does not allow is found, and the library refuses it."""
    details = {**SEGMENT, **members}
    assert len(faults_of(XRAY, json.dumps(details), None)) == 1
    with pytest.raises(InvalidEvent):
        _ = event_of(details).details


def event_of(details: dict[str, Any]) -> XrayTraceEvent:
    """Make the library's event of these details."""
    event = XrayTraceEvent(name="", segment_id="", trace_id="", start_time=0)
    event.details = details
    return event
