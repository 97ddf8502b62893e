"""A real Django application, called as a server calls it."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

import pytest

from rumbuffer.asgi import RumMiddleware
from tests.web.helpers import BROWSER, HTTP, JS_ERROR, SESSION, App, Site, get, urls_of
from tests.web.packages import needed


def other_site(get_response: Any) -> Any:
    """A middleware of Django's that serves another site's addresses to another host."""

    async def middleware(request: Any) -> Any:
        if request.get_host() == "other.example.com":
            request.urlconf = "tests.web.django_other_urls"
        return await get_response(request)

    needed("asgiref.sync").markcoroutinefunction(middleware)
    return middleware


other_site.async_capable = True  # type: ignore[attr-defined]
other_site.sync_capable = False  # type: ignore[attr-defined]


def django_app() -> App:
    """Make a Django application, the same for all tests."""
    django, conf = needed("django"), needed("django.conf")
    if not conf.settings.configured:
        conf.settings.configure(
            ALLOWED_HOSTS=["*"],
            LANGUAGES=[("en", "English"), ("de", "Deutsch")],
            LOGGING_CONFIG=None,
            MIDDLEWARE=["django.middleware.locale.LocaleMiddleware", "tests.web.test_django.other_site"],
            ROOT_URLCONF="tests.web.django_urls",
            SECRET_KEY="x",
            USE_I18N=True,
        )
        django.setup()
    return needed("django.core.asgi").get_asgi_application()  # type: ignore[no-any-return]


async def test_django(site: Site) -> None:
    """Django's routes stand in the events, from its own resolver, for its async and its sync views."""
    app = RumMiddleware(django_app(), buffer=site.buffer)
    bodies = [
        (await get(app, path, headers=BROWSER)).body.decode()
        for path in ("/items/42/", "/thread/jane/", "/old/42/", "/nested/a/7/", "/none/42/")
    ]
    assert bodies[:2] == [SESSION, SESSION]
    assert await urls_of(site) == [
        "/items/{item_id}/",
        "/thread/{name}/",
        "/old/{number}/",
        "/nested/a/{item_id}/",
        "/none/*/",
    ]


async def test_django_below_a_root_path(site: Site) -> None:
    """A server's root path stands before Django's route, too."""
    app = RumMiddleware(django_app(), buffer=site.buffer)
    await get(app, "/items/42/", root_path="/public", headers=BROWSER)
    assert await urls_of(site) == ["/public/items/{item_id}/"]


async def test_nothing_is_resolved_twice(site: Site) -> None:
    """A converter, which may ask a database, runs once a request, as without the middleware."""
    app = RumMiddleware(django_app(), buffer=site.buffer)
    converter = needed("tests.web.django_urls").Counted
    converter.calls = 0
    for _ in range(3):
        await get(app, "/counted/jane/", headers=BROWSER)
    assert converter.calls == 3
    assert await urls_of(site) == ["/counted/{name}/"] * 3


def test_django_is_asked_once(site: Site) -> None:
    """However many middlewares there are, Django's methods have one layer of ours."""
    app = django_app()
    RumMiddleware(app, buffer=site.buffer)
    base = needed("django.core.handlers.base")
    method = base.BaseHandler.resolve_request
    RumMiddleware(app, buffer=site.buffer)
    assert base.BaseHandler.resolve_request is method


async def test_the_requests_own_urlconf(site: Site) -> None:
    """The route is the one that Django took, for the same path with another host another one."""
    app = RumMiddleware(django_app(), buffer=site.buffer)
    for host in (b"shop.example.com", b"other.example.com"):
        assert (await get(app, "/items/42/", host=host, headers=BROWSER)).status == 200
    assert await urls_of(site) == ["/items/{item_id}/", "/items/{name}/"]


async def test_the_requests_own_language(site: Site) -> None:
    """A route below a language's prefix is known in every language."""
    app = RumMiddleware(django_app(), buffer=site.buffer)
    for path in ("/de/dishes/7/", "/en/dishes/7/"):
        assert (await get(app, path, headers=BROWSER)).status == 200
    assert await urls_of(site) == ["/de/dishes/{item_id}/", "/en/dishes/{item_id}/"]


async def test_many_at_once(site: Site) -> None:
    """Requests at the same time, on the loop and in threads, have each its own route."""
    app = RumMiddleware(django_app(), buffer=site.buffer)
    paths = [f"/items/{number}/" for number in range(20)] + [f"/thread/{number}/" for number in range(20)]
    await asyncio.gather(*[get(app, path, headers=BROWSER) for path in paths])
    assert sorted(await urls_of(site)) == ["/items/{item_id}/"] * 20 + ["/thread/{name}/"] * 20


@pytest.mark.parametrize("view", ["failing", "failing-in-thread"])
async def test_exception(site: Site, view: str) -> None:
    """An exception that Django answers with a 500 is told once, with its route, its place and its request."""
    app = RumMiddleware(django_app(), buffer=site.buffer)
    assert (await get(app, f"/{view}/42/", headers=BROWSER)).status == 500
    http, js = sorted(await site.events(), key=lambda event: event.type)
    assert (http.url, http.status, js.type) == (f"/{view}/{{item_id}}/", 500, JS_ERROR)
    assert (http.details["error"]["type"], js.details["message"]) == ("LookupError", "no such item")
    assert js.details["filename"].endswith("django_urls.py")


async def test_exception_that_is_an_answer(site: Site) -> None:
    """What Django answers with a 403 or a 404 is no error."""
    app = RumMiddleware(django_app(), buffer=site.buffer)
    for path, status in (("/forbidden/", 403), ("/none/", 404)):
        assert (await get(app, path, headers=BROWSER)).status == status
    assert [event.type for event in await site.events()] == [HTTP, HTTP]


async def test_exception_that_is_raised_on(site: Site) -> None:
    """Where Django is told to raise exceptions on, one is told once, all the same."""
    app = RumMiddleware(django_app(), buffer=site.buffer)
    with needed("django.test").override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True), pytest.raises(LookupError):
        await get(app, "/failing/42/", headers=BROWSER)
    with warnings.catch_warnings():  # Django leaves the request's body file open here
        warnings.simplefilter("ignore")
        gc.collect()
    assert sorted(event.type for event in await site.events()) == [HTTP, JS_ERROR]
