"""Templates of what is mounted: Starlette tells of a mount's path only as it was asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rumbuffer.asgi import RumMiddleware
from rumbuffer.web import routes
from tests.web.helpers import BROWSER, SESSION, App, Site, answering, get, urls_of
from tests.web.packages import needed


class Wrapped:
    """A middleware as most are: the application stands in `app`."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass on."""
        await self.app(scope, receive, send)


def _hidden(mount: Any) -> App:
    """A middleware that does not tell what is below it."""
    router = needed("starlette.routing").Router([mount])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await router(scope, receive, send)

    return app


def mounting_app(site: Site) -> App:
    """Make a Starlette application with mounts of all kinds."""
    applications, routing = needed("starlette.applications"), needed("starlette.routing")
    responses = needed("starlette.responses")

    async def item(request: Any) -> Any:
        return responses.PlainTextResponse("here it is")

    app = applications.Starlette(
        routes=[
            routing.Mount(
                "/shops/{shop}",
                routes=[
                    routing.Route("/items/{item_id}", item),
                    routing.Mount(
                        "/rooms/{room:int}", app=Wrapped(routing.Router([routing.Route("/", item)]))
                    ),
                ],
            ),
            routing.Mount("/years/{year:int}", routes=[routing.Route("/items/{item_id}", item)]),
            routing.Mount("/keys/{key:uuid}/of", routes=[routing.Route("/items/{item_id}", item)]),
            routing.Mount("/files/{folder:path}/in", routes=[routing.Route("/{item_id}", item)]),
            routing.Mount("/plain", app=_hidden(routing.Mount("/inner", routes=[routing.Route("/", item)]))),
            routing.Mount(
                "/hidden/{name}", app=_hidden(routing.Mount("/{year:int}", routes=[routing.Route("/", item)]))
            ),
        ]
    )
    app.add_middleware(RumMiddleware, buffer=site.buffer)
    return app  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/years/02026/items/7", "/years/{year}/items/{item_id}"),
        (f"/keys/{SESSION.upper()}/of/items/7", "/keys/{key}/of/items/{item_id}"),
        (f"/keys/{SESSION.replace('-', '')}/of/items/7", "/keys/{key}/of/items/{item_id}"),
        ("/files/jane/letters/in/7", "/files/{folder}/in/{item_id}"),
        ("/shops/shops/items/7", "/shops/{shop}/items/{item_id}"),
        ("/shops/jane/rooms/007/", "/shops/{shop}/rooms/{room}/"),
        ("/shops/jane/none", "/shops/{shop}/{path}"),
        ("/hidden/jane/007/", "/hidden/{name}/*/"),
        ("/plain/inner/", "/plain/inner/"),
    ],
)
async def test_mounts_hold_no_values(site: Site, path: str, url: str) -> None:
    """However a visitor writes a mount's parameter, its name stands in the template."""
    app = mounting_app(site)
    for root_path in ("", "/public"):
        await get(app, path, root_path=root_path, headers=BROWSER)
        await get(app, path, root_path=root_path, headers=BROWSER)
    assert await urls_of(site) == [url, url, f"/public{url}", f"/public{url}"]


async def named(scope: Any, receive: Any, send: Any) -> None:
    """Answer, and name the route."""
    scope["rumbuffer.route"] = "/mine"
    await answering()(scope, receive, send)


async def test_inside_of_a_mount(site: Site) -> None:
    """A middleware inside of a mount tells the mount's template, and not what was asked for."""
    applications, routing = needed("starlette.applications"), needed("starlette.routing")
    inside = RumMiddleware(named, buffer=site.buffer)
    app = applications.Starlette(routes=[routing.Mount("/years/{year:int}", app=inside)])
    await get(app, "/years/02026/x", root_path="/public", headers=BROWSER)
    assert await urls_of(site) == ["/public/years/{year}/mine"]


@pytest.mark.parametrize("framework", ["starlette.applications:Starlette", "fastapi:FastAPI"])
@pytest.mark.parametrize(("mount", "url"), [("/", "/mine"), ("/years/{year:int}", "/years/{year}/mine")])
async def test_mounted_application_that_names_its_routes(
    site: Site, framework: str, mount: str, url: str
) -> None:
    """What is mounted may be of another framework, which knows the rest of the template."""
    module, _, name = framework.partition(":")
    app = getattr(needed(module), name)()
    app.mount(mount, named)
    await get(RumMiddleware(app, buffer=site.buffer), mount.replace("{year:int}", "007/x"), headers=BROWSER)
    assert await urls_of(site) == [url]


async def test_applications_do_not_share_mounts(site: Site) -> None:
    """The same path in two applications has the template of each."""
    applications, routing = needed("starlette.applications"), needed("starlette.routing")
    for name in ("shop", "room"):
        app = applications.Starlette(routes=[routing.Mount(f"/{{{name}}}", app=named)])
        await get(RumMiddleware(app, buffer=site.buffer), "/jane/x", headers=BROWSER)
    assert await urls_of(site) == ["/{shop}/mine", "/{room}/mine"]


async def test_many_mounts_do_not_fill_the_memory(site: Site) -> None:
    """A client that makes up paths below a mount makes no cache grow beyond its bound."""
    applications, routing = needed("starlette.applications"), needed("starlette.routing")
    app = RumMiddleware(
        applications.Starlette(routes=[routing.Mount("/{name}", app=named)]), buffer=site.buffer
    )
    for number in range(1100):
        await get(app, f"/{number}/x", headers=BROWSER)
    await get(app, "/" + "x" * 5000 + "/x", headers=BROWSER)
    assert 0 < len(routes._kept) <= 1024
    assert max(map(len, routes._kept)) <= 256
    assert set(await urls_of(site)) == {"/{name}/mine"}


@pytest.mark.parametrize(
    ("members", "template"),
    [
        ({}, "/*/*/{id}"),
        ({"app_root_path": "/other"}, "/other/*/{id}"),
        ({"app_root_path": "/other/jane"}, "/other/jane/{id}"),
        ({"path_params": {}}, "/other/jane/{id}"),
    ],
)
def test_mounts_that_nobody_explains(members: dict[str, Any], template: str) -> None:
    """Where nothing tells which part of a mount's path is a parameter, all of it is starred out."""
    scope = {
        "route": SimpleNamespace(path_format="/{id}"),
        "root_path": "/other/jane",
        "app_root_path": "/public",
        "path_params": {"name": "jane", "id": "7"},
        **members,
    }
    assert routes.route_template(scope, "/public") == template
