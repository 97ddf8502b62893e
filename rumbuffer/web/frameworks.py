"""What frameworks keep to themselves, left in a request's scope: routes, and exceptions that became a 500.

Starlette and FastAPI need none of this: they leave the route in the scope, and raise on what they
answered with a 500. The others are asked in their own ways, each once in a process and only if it is there:

- Quart sends signals with the request in hand, for routes and for exceptions.
- Django sends one for exceptions. Routes it tells nobody, so `BaseHandler.resolve_request` is wrapped, the
  one method that resolves every request (Django 4.2 to 5.2, read 2026-11); the route is Django's own
  result, with the request's language and `urlconf`, and nothing is resolved twice.
- Litestar has a hook of the application's, `after_exception`, to which ours is added.

Whatever goes wrong here, the framework must not notice: without a route or an exception in the scope,
the event tells less, and that is all.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from functools import wraps
from importlib import import_module
from typing import Any

from rumbuffer.log import log
from rumbuffer.web.routes import ROUTE, in_braces

__all__ = ["ERROR", "taken_error", "watch_frameworks"]

ERROR = "rumbuffer.error"
"""The scope's member in which an application may leave the exception that it answers with a 5xx."""

_watched: set[str] = set()


def watch_frameworks(*apps: object) -> None:
    """Have the frameworks that are imported leave their routes and exceptions in the scopes.

    `apps` are applications, with middlewares around them or not, that are looked at for Litestar's hook.
    """
    for name, watch in _WATCHES.items():
        if name in sys.modules and name not in _watched:
            _watched.add(name)
            try:
                watch()
            except Exception as error:  # noqa: BLE001 - another version of it, where names have moved
                log(
                    logging.WARNING, "rumbuffer: no routes and errors from %s: %s", name, type(error).__name__
                )
    if "litestar" in sys.modules:
        for app in apps:
            with suppress(Exception):
                _watch_litestar(app)


def taken_error(scope: MutableMapping[str, Any]) -> BaseException | None:
    """Take the exception out of a scope, which its traceback would keep alive."""
    error = scope.pop(ERROR, None)
    if error is None and "litestar_app" in scope:
        # The middleware stands inside of Litestar, which it could not know before: from the next one on.
        watch_frameworks(scope["litestar_app"])
    return error if isinstance(error, BaseException) else None


# Quart --------------------------------------------------------------------------------------------


def _watch_quart() -> None:
    quart, signals = import_module("quart"), import_module("quart.signals")

    def on_request(_: object, **__: object) -> None:
        _note_rule(quart.request)

    def on_websocket(_: object, **__: object) -> None:
        _note_rule(quart.websocket)

    def on_request_error(_: object, *, exception: BaseException, **__: object) -> None:
        quart.request.scope[ERROR] = exception

    def on_websocket_error(_: object, *, exception: BaseException, **__: object) -> None:
        quart.websocket.scope[ERROR] = exception

    signals.request_started.connect(on_request, weak=False)
    signals.websocket_started.connect(on_websocket, weak=False)
    signals.got_request_exception.connect(on_request_error, weak=False)
    signals.got_websocket_exception.connect(on_websocket_error, weak=False)


def _note_rule(request: Any) -> None:
    rule = request.url_rule
    if rule is not None:
        request.scope.setdefault(ROUTE, in_braces(rule.rule))


# Django -------------------------------------------------------------------------------------------


def _watch_django() -> None:
    base, signals = import_module("django.core.handlers.base"), import_module("django.core.signals")
    resolve_request: Callable[[Any, Any], Any] = base.BaseHandler.resolve_request

    @wraps(resolve_request)
    def resolve_and_note(handler: Any, request: Any) -> Any:
        match = resolve_request(handler, request)
        with suppress(Exception):  # a request of WSGI's has no scope
            request.scope.setdefault(ROUTE, "/" + in_braces(str(match.route)))
        return match

    def on_request_error(*, request: Any, **_: object) -> None:
        scope = getattr(request, "scope", None)
        error = sys.exc_info()[1]
        if scope is not None and error is not None:
            scope[ERROR] = error

    base.BaseHandler.resolve_request = resolve_and_note
    signals.got_request_exception.connect(on_request_error, weak=False, dispatch_uid="rumbuffer")


# Litestar -----------------------------------------------------------------------------------------


def _watch_litestar(app: Any) -> None:
    litestar = import_module("litestar")
    for _ in range(32):
        if isinstance(app, litestar.Litestar):
            if _after_exception not in app.after_exception:
                app.after_exception.append(_after_exception)
            return
        app = getattr(app, "app", None)


async def _after_exception(error: BaseException, scope: MutableMapping[str, Any]) -> None:
    """Litestar calls this for every exception; one of its own that names a 4xx or a close code is an answer.

    Whether another one becomes a 5xx, or what a handler of the application's makes of it, its response tells.
    """
    exceptions = import_module("litestar.exceptions")
    if isinstance(error, exceptions.HTTPException):
        if error.status_code < 500 or scope["type"] == "websocket":
            return
    elif isinstance(error, exceptions.WebSocketException):
        return
    scope[ERROR] = error


_WATCHES: dict[str, Callable[[], None]] = {
    "quart.signals": _watch_quart,
    "django.core.handlers.base": _watch_django,
}
