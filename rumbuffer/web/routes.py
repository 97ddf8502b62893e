"""The route template of a request, where the framework knows it.

After the application ran, what it left in the scope tells: Starlette and FastAPI leave the route,
Litestar the template itself. Quart and Django keep it to themselves; `rumbuffer.web.frameworks` has them
leave it, too.

A template never holds what a visitor wrote. Starlette tells of a mount's path only as it was asked for
(``/shops/tea`` for ``/shops/{shop}``), so the mount is looked for among the application's routes; what
stays unexplained is starred out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, MutableMapping
from functools import lru_cache
from typing import Any
from weakref import ref

__all__ = ["ROUTE", "in_braces", "route_template"]

ROUTE = "rumbuffer.route"
"""The scope's member in which an application may name the route itself."""

Scope = MutableMapping[str, Any]

_BELOW_A_MOUNT = "/{path}"
"""How the template of a Starlette mount ends: with all that is left to what is mounted."""


def route_template(scope: Scope, root_path: str) -> str | None:
    """Return the template of the route that served a request; `None` where nobody knows.

    `root_path` is what the scope held before the application changed it.
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
        if not mounted and template != _BELOW_A_MOUNT:
            return template
        if template.endswith(_BELOW_A_MOUNT) and hasattr(route, "routes"):
            # The mount is the last that Starlette knows of; its path is in `mounted`.
            template = _named(scope) or _BELOW_A_MOUNT
        return _below(scope, mounted, template)
    template = _named(scope)
    if template is None:
        return None
    if "app_root_path" in scope:
        return _below(scope, scope.get("root_path", ""), template)
    return root_path + template if root_path else template


def _named(scope: Scope) -> str | None:
    """Return the template that Litestar, an application or we have put into the scope."""
    template = scope.get("path_template") or scope.get(ROUTE)
    return template if isinstance(template, str) and template else None


# Mounts -------------------------------------------------------------------------------------------


def _below(scope: Scope, mounted: str, template: str) -> str:
    """Put the mounts' templates before the template of a route below them."""
    root = scope.get("app_root_path")
    if root is None or mounted == root:  # nothing is mounted: what is there, a server or a setting put there
        return mounted + template
    if not scope.get("path_params"):
        return mounted + template
    if not mounted.startswith(root):
        return _starred(mounted) + template
    return f"{root}{_mounts_template(scope.get('router'), mounted[len(root) :])}{template}"


_MOST_KEPT, _LONGEST_KEPT = 1024, 256
_kept: dict[str, tuple[ref[Any], str]] = {}
"""The router and the template of each path that something was mounted at."""


def _mounts_template(router: Any, mounted: str) -> str:
    if router is None:
        return _starred(mounted)
    kept = _kept.get(mounted)
    if kept is not None and kept[0]() is router:
        return kept[1]
    template = _explained(router, mounted)
    if len(mounted) <= _LONGEST_KEPT:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[mounted] = (ref(router), template)
    return template


def _explained(app: Any, mounted: str) -> str:
    """Return the templates of the mounts that make up a path, the outermost first."""
    if not mounted:
        return ""
    best = _starred(mounted)
    for route in _routes_of(app):
        template, regex = getattr(route, "path_format", ""), getattr(route, "path_regex", None)
        if regex is None or not hasattr(route, "routes") or not template.endswith(_BELOW_A_MOUNT):
            continue
        match = regex.match(mounted + "/")
        # A mount at "/" leaves the whole path, and explains nothing.
        if match is None or len(match["path"]) >= len(mounted):
            continue
        rest = match["path"].rstrip("/")
        below = _explained(route.app, "/" + rest) if rest else ""
        explained = template.removesuffix(_BELOW_A_MOUNT) + below
        if not rest or "*" not in below:
            return explained
        best = explained
    return best


def _routes_of(app: Any) -> Iterable[Any]:
    """Return the routes of an application, which middlewares may be wrapped around."""
    for _ in range(32):
        routes = getattr(app, "routes", None)
        if routes is not None:
            return list(routes)
        app = getattr(app, "app", None)
    return ()


def _starred(mounted: str) -> str:
    return re.sub(r"[^/]+", "*", mounted)


# Other notations ------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def in_braces(rule: str) -> str:
    """Write a route of Werkzeug's or Django's as all others do: ``/items/{id}``."""
    rule = re.sub(r"\(\?P<(\w+)>(?:[^()\\]|\\.|\([^()]*\))*\)", r"{\1}", rule)
    rule = re.sub(r"<(?:[^<>]*:)?([^<>:]+)>", r"{\1}", rule)
    return rule.removeprefix("^").replace("/^", "/").removesuffix("$").removesuffix(r"\Z")
