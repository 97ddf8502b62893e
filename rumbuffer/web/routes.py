"""The route template of a request, where the framework knows it.

After the application ran, what it left in the scope tells: Starlette and FastAPI leave the route,
Litestar the template itself. Quart keeps it to itself, but sends a signal with the request in hand;
Django has no such place, and is asked to resolve the path again.
"""

from __future__ import annotations

import re
import sys
from collections.abc import MutableMapping
from functools import lru_cache
from importlib import import_module
from typing import Any

__all__ = ["ROUTE", "route_template", "watch_quart"]

ROUTE = "rumbuffer.route"
"""The scope's member in which an application may name the route itself."""

Scope = MutableMapping[str, Any]


def route_template(scope: Scope, path: str, root_path: str) -> str | None:
    """Return the template of the route that served a request; `None` where nobody knows.

    `path` and `root_path` are what the scope held before the application changed it.
    """
    route = scope.get("route")
    if route is not None:
        if "fastapi" in scope:
            # A router that is included under a prefix: the route alone does not know the prefix.
            route = scope["fastapi"].get("effective_route_context") or route
        try:
            template = route.path_format
        except AttributeError:
            template = getattr(route, "path", None)
        if template.__class__ is not str:
            return None
        mounted = scope.get("root_path", "")
        if not mounted:
            return template
        return _below(mounted, root_path, template, scope.get("path_params"))
    template = scope.get("path_template") or scope.get(ROUTE)
    if template is None and "django" in sys.modules:
        template = _django_template(path.removeprefix(root_path))
    if isinstance(template, str) and template:
        return root_path + template if root_path else template
    return None


def _below(mounted: str, root_path: str, template: str, parameters: object) -> str:
    """Put the mount's path before the template; its parameters are named, not told."""
    prefix = mounted.removeprefix(root_path)
    if prefix and isinstance(parameters, dict):
        names = {str(value): f"{{{name}}}" for name, value in parameters.items()}
        prefix = "/".join([names.get(part, part) for part in prefix.split("/")])
        root_path = root_path if mounted.startswith(root_path) else ""
    return root_path + prefix + template


# Quart --------------------------------------------------------------------------------------------

_quart_watched = False


def watch_quart() -> None:
    """Have Quart note each request's route in its scope; once in a process, and only if it is there."""
    global _quart_watched  # noqa: PLW0603 - signals are the process's too
    if _quart_watched or "quart.signals" not in sys.modules:
        return
    quart, signals = import_module("quart"), import_module("quart.signals")

    def note_request(_: object, **__: object) -> None:
        _note(quart.request.scope, quart.request.url_rule)

    def note_websocket(_: object, **__: object) -> None:
        _note(quart.websocket.scope, quart.websocket.url_rule)

    signals.request_started.connect(note_request, weak=False)
    signals.websocket_started.connect(note_websocket, weak=False)
    _quart_watched = True


def _note(scope: Any, rule: Any) -> None:
    if rule is not None:
        scope.setdefault(ROUTE, in_braces(rule.rule))


# Django -------------------------------------------------------------------------------------------

_django_failed = False


def _django_template(path: str) -> str | None:
    global _django_failed  # noqa: PLW0603 - Django's settings are the process's too
    if _django_failed:
        return None
    try:
        route = _django_route(path)
    except Exception:  # noqa: BLE001 - Django is imported and not in use
        _django_failed = True
        return None
    return None if route is None else "/" + in_braces(route)


@lru_cache(maxsize=1024)
def _django_route(path: str) -> str | None:
    urls = import_module("django.urls")
    try:
        return str(urls.resolve(path).route)
    except urls.Resolver404:
        return None


@lru_cache(maxsize=1024)
def in_braces(rule: str) -> str:
    """Write a route of Werkzeug's or Django's as all others do: ``/items/{id}``."""
    rule = re.sub(r"\(\?P<(\w+)>(?:[^()\\]|\\.|\([^()]*\))*\)", r"{\1}", rule)
    rule = re.sub(r"<(?:[^<>]*:)?([^<>:]+)>", r"{\1}", rule)
    return rule.removeprefix("^").replace("/^", "/").removesuffix("$").removesuffix(r"\Z")
