"""A small Django site for the tests."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import include, path, re_path

from rumbuffer import current_session


def _current_id() -> str:
    session = current_session.get()
    return "none" if session is None else session.id


async def item(request: Any, item_id: int) -> HttpResponse:
    """Answer on the loop."""
    return HttpResponse(_current_id())


def in_thread(request: Any, name: str) -> HttpResponse:
    """Answer in a thread."""
    return HttpResponse(_current_id())


def old(request: Any, number: str) -> HttpResponse:
    """Answer a pattern of the old kind."""
    return HttpResponse(_current_id())


urlpatterns = [
    path("items/<int:item_id>/", item),
    path("thread/<name>/", in_thread),
    re_path(r"^old/(?P<number>\d+)/$", old),
    path("nested/", include([path("a/<int:item_id>/", item)])),
]
