"""A small Django site for the tests."""

from __future__ import annotations

from typing import Any

from django.conf.urls.i18n import i18n_patterns
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.urls import include, path, re_path, register_converter

from rumbuffer import current_session


class Counted:
    """A converter that counts its work, and asks the database first, as it were."""

    regex = "[^/]+"
    calls = 0

    def to_python(self, value: str) -> str:
        """Count."""
        Counted.calls += 1
        return value

    def to_url(self, value: str) -> str:
        """Return it as it is."""
        return value


register_converter(Counted, "counted")


def _current_id() -> str:
    session = current_session.get()
    return "none" if session is None else session.id


async def item(request: Any, item_id: int) -> HttpResponse:
    """Answer on the loop."""
    return HttpResponse(_current_id())


async def item_by_name(request: Any, name: str) -> HttpResponse:
    """Answer on the loop."""
    return HttpResponse(_current_id())


def in_thread(request: Any, name: str) -> HttpResponse:
    """Answer in a thread."""
    return HttpResponse(_current_id())


def old(request: Any, number: str) -> HttpResponse:
    """Answer a pattern of the old kind."""
    return HttpResponse(_current_id())


async def failing(request: Any, item_id: int) -> HttpResponse:
    """Raise on the loop."""
    raise LookupError("no such item")


def failing_in_thread(request: Any, item_id: int) -> HttpResponse:
    """Raise in a thread."""
    raise LookupError("no such item")


def forbidden(request: Any) -> HttpResponse:
    """Raise what Django answers with a 403."""
    raise PermissionDenied


urlpatterns = [
    path("counted/<counted:name>/", item_by_name),
    path("failing/<int:item_id>/", failing),
    path("failing-in-thread/<int:item_id>/", failing_in_thread),
    path("forbidden/", forbidden),
    path("items/<int:item_id>/", item),
    path("thread/<name>/", in_thread),
    re_path(r"^old/(?P<number>\d+)/$", old),
    path("nested/", include([path("a/<int:item_id>/", item)])),
]
urlpatterns += i18n_patterns(path("dishes/<int:item_id>/", item))
