"""Which routes need a key: every one, but for those that somebody decided on here."""

import pathlib
from collections.abc import AsyncIterator, Iterator

import fastapi
import in_process
import pytest
from starlette.routing import BaseRoute, Mount, Route

from chatmodel_runtime import settings

# A new route is decided on by a line here; until then the build fails.
DECISIONS = {
    "/": "key",
    "/health": "open",
    "/ready": "open",
    "/triage": "key",
    "/v1/models": "key",
    "/v1/chat/completions": "key",
}
DEVELOPMENT = {"/docs": "key", "/openapi.json": "key"}


@pytest.fixture(params=[False, True], ids=["in production", "in development"])
async def app(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> AsyncIterator[fastapi.FastAPI]:
    (tmp_path / "api-key").write_text("right")
    async with in_process.serving(tmp_path, development=request.param) as made:
        yield made


def walk(routes: list[BaseRoute]) -> Iterator[tuple[str, str]]:
    """Yield method and path of every route, those of mounted applications too."""
    for route in routes:
        if isinstance(route, Route):
            for method in sorted(route.methods or ()):
                yield method, route.path
        else:
            assert isinstance(route, Mount), f"no way to walk {type(route).__name__}"
            for method, path in walk(list(route.routes)):
                yield method, route.path + path


def decided(app: fastapi.FastAPI) -> dict[str, str]:
    return DECISIONS | (DEVELOPMENT if app.openapi_url else {})


async def test_every_route_is_decided_on(app: fastapi.FastAPI) -> None:
    assert {path for _, path in walk(app.routes)} == set(decided(app))


async def test_without_credentials_every_route_but_the_open_ones_is_refused(
    app: fastapi.FastAPI,
) -> None:
    found = list(walk(app.routes))
    assert len(found) >= len(DECISIONS)
    for method, path in found:
        for wrong in ({}, {"X_API_Key": "wrong"}, {"Authorization": "Bearer wrong"}):
            status = (await in_process.ask(app, method, path, **wrong)).status
            assert (status == 401) == (decided(app)[path] == "key"), (method, path)


async def test_with_a_key_no_route_is_refused(app: fastapi.FastAPI) -> None:
    for method, path in walk(app.routes):
        assert (await in_process.ask(app, method, path, X_API_Key="right")).status != 401


async def test_a_planted_route_without_a_decision_is_found(app: fastapi.FastAPI) -> None:
    @app.get("/planted")
    async def planted() -> None:
        """Nothing."""

    assert {path for _, path in walk(app.routes)} - set(decided(app)) == {"/planted"}
    assert (await in_process.ask(app, "GET", "/planted")).status == 401


@pytest.mark.parametrize("path", ["/health/", "//health", "/health/../", "/HEALTH", "/ready?x"])
async def test_only_the_very_path_is_open(tmp_path: pathlib.Path, path: str) -> None:
    (tmp_path / "api-key").write_text("right")
    async with in_process.serving(tmp_path) as app:
        assert (await in_process.ask(app, "GET", path)).status == 401


async def test_the_api_describes_itself_in_development_only() -> None:
    for development, status in ((False, 404), (True, 200)):
        async with in_process.serving(development=development) as app:
            for path in ("/docs", "/openapi.json"):
                assert (await in_process.ask(app, "GET", path)).status == status
            assert (await in_process.ask(app, "GET", "/redoc")).status == 404


def test_development_is_a_variable_that_is_off() -> None:
    assert not settings.read_environment({}).development
    assert not settings.read_environment({"DEVELOPMENT": "0"}).development
    assert settings.read_environment({"DEVELOPMENT": "1"}).development


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/x", 404), ("PUT", "/", 405)])
async def test_a_route_that_is_not_there_is_refused_in_our_words(
    method: str, path: str, status: int
) -> None:
    async with in_process.serving() as app:
        reply = await in_process.ask(app, method, path)
    assert reply.status == status
    assert b'"trace_id"' in reply.body and b'"error"' in reply.body
