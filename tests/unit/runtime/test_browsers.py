"""Which web pages may read our answers."""

import pathlib
from collections.abc import AsyncIterator

import fastapi
import in_process
import pytest

from chatmodel_runtime import settings
from chatmodel_runtime.errors import ConfigError

PAGE, OTHER = "https://page.example", "https://other.example"
PREFLIGHT = {
    "Access_Control_Request_Method": "POST",
    "Access_Control_Request_Headers": "content-type,x-api-key",
}


def cors(reply: in_process.Reply) -> dict[str, str]:
    return {k: v for k, v in reply.headers.items() if k.startswith("access-control-")}


@pytest.fixture
async def app(tmp_path: pathlib.Path) -> AsyncIterator[fastapi.FastAPI]:
    (tmp_path / "api-key").write_text("right")
    origins = (PAGE, "http://localhost:5173")
    async with in_process.serving(tmp_path, allowedOrigins=origins) as made:
        yield made


@pytest.mark.parametrize("origin", [PAGE, "http://localhost:5173"])
async def test_a_preflight_of_an_allowed_page_needs_no_key(
    app: fastapi.FastAPI, origin: str
) -> None:
    reply = await in_process.ask(app, "OPTIONS", "/triage", Origin=origin, **PREFLIGHT)
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == origin
    assert reply.headers["access-control-allow-methods"] == "GET, POST"
    allowed = reply.headers["access-control-allow-headers"].lower()
    assert "x-api-key" in allowed and "authorization" in allowed and "content-type" in allowed
    assert reply.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param(OTHER, id="another page"),
        pytest.param("null", id="a page without an origin"),
        pytest.param("*", id="everybody"),
        pytest.param("http://page.example", id="without encryption"),
        pytest.param("https://page.example:444", id="another port"),
        pytest.param("https://page.example.evil.example", id="a longer name"),
        pytest.param("https://PAGE.example", id="in capitals, as no browser writes it"),
        pytest.param("", id="nothing"),
    ],
)
async def test_other_pages_are_told_nothing(app: fastapi.FastAPI, origin: str) -> None:
    for method, more in (("OPTIONS", PREFLIGHT), ("GET", {})):
        reply = await in_process.ask(app, method, "/", Origin=origin, **more)
        assert (reply.status, cors(reply)) == (401, {})
    reply = await in_process.ask(app, "GET", "/health", Origin=origin)
    assert (reply.status, cors(reply)) == (200, {})


@pytest.mark.parametrize(
    ("path", "status"), [("/health", 200), ("/", 401), ("/nowhere", 401), ("/triage", 401)]
)
async def test_an_allowed_page_reads_answers_and_refusals(
    app: fastapi.FastAPI, path: str, status: int
) -> None:
    reply = await in_process.ask(app, "GET", path, Origin=PAGE)
    assert reply.status == status
    assert cors(reply)["access-control-allow-origin"] == PAGE
    assert reply.headers["vary"] == "Origin"


async def test_what_an_allowed_page_does_still_needs_a_key(app: fastapi.FastAPI) -> None:
    assert (await in_process.ask(app, "OPTIONS", "/triage", Origin=PAGE)).status == 401
    assert (await in_process.ask(app, "GET", "/", Origin=PAGE, X_API_Key="right")).status == 200


async def test_without_a_list_no_page_is_allowed() -> None:
    async with in_process.serving() as app:
        preflight = await in_process.ask(app, "OPTIONS", "/triage", Origin=PAGE, **PREFLIGHT)
        assert (preflight.status, cors(preflight)) == (405, {})
        assert cors(await in_process.ask(app, "GET", "/", Origin=PAGE)) == {}


def test_the_list_of_a_standalone_server_is_a_variable() -> None:
    env = {"ALLOWED_ORIGINS": f"{PAGE}, http://localhost:5173"}
    assert settings.read_environment(env).allowed_origins == (PAGE, "http://localhost:5173")
    assert settings.read_environment({}).allowed_origins == ()


@pytest.mark.parametrize(
    "origin", ["*", "https://*.example", "null", f"{PAGE}/", "page.example", "file://x"]
)
def test_what_is_no_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ConfigError, match=r"allowedOrigins\.0"):
        settings.read_environment({"ALLOWED_ORIGINS": origin})
