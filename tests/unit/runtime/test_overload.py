"""A full queue refuses at once: before a body is read, after the key is looked at."""

import asyncio
import contextlib
import json
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgi_calls import Inside, call, serving
from scripted_engine import ScriptedEngine

from chatmodel_runtime import gates

HANG_SECONDS = 10
QUESTION = json.dumps({"patient_mrn": "MRN-001", "query": "What now?"}).encode()
KEY = {"x-api-key": "right"}
ROUTES = pytest.mark.parametrize("route", gates.REFUSALS)


@contextlib.asynccontextmanager
async def full(**config: Any) -> AsyncIterator[Inside]:
    """Yield a runtime with one answer under way and no room for a second."""
    engine = ScriptedEngine()
    engine.gate.clear()
    async with serving(engine, room=(1, 0), **config) as inside:
        asked = asyncio.create_task(call(inside.public, "POST", "/triage", QUESTION, headers=KEY))
        await asyncio.wait_for(engine.running.acquire(), HANG_SECONDS)
        yield inside
        engine.gate.set()
        assert (await asked).status == 200


@ROUTES
async def test_a_full_queue_reads_no_body(route: str) -> None:
    async with full() as inside:
        reply = await call(inside.public, "POST", route, b"this is no JSON")
    assert reply.status == 429
    assert int(reply.headers["retry-after"]) >= 1
    assert json.loads(reply.text).keys() == (
        {"detail"} if route == "/triage" else {"error", "trace_id"}
    )


@ROUTES
async def test_who_is_refused_waits_a_little_and_nobody_else_does(
    route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "PAUSE_SECONDS", 10 * HANG_SECONDS)
    async with full() as inside, asyncio.timeout(HANG_SECONDS):
        refused = asyncio.create_task(call(inside.public, "POST", route, QUESTION))
        while 'refused_total{reason="queue_full"} 1.0' not in await inside.metrics():
            await asyncio.sleep(0)
        for _ in range(20):
            assert (await call(inside.public, "GET", "/health")).status == 200
            await asyncio.sleep(0)
        assert not refused.done()
        refused.cancel()


@ROUTES
async def test_the_key_is_looked_at_before(route: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "key").write_text("right")
    async with full(auth={"mode": "ApiKey", "keysDir": str(tmp_path)}) as inside:
        assert (await call(inside.public, "POST", route, QUESTION)).status == 401
        assert (await call(inside.public, "POST", route, QUESTION, headers=KEY)).status == 429


async def test_what_needs_no_engine_is_answered_all_the_same() -> None:
    async with full() as inside:
        for path in ("/", "/health", "/ready", "/v1/models"):
            assert (await call(inside.public, "GET", path)).status == 200


def test_every_route_that_generates_has_its_words_for_it() -> None:
    assert set(gates.REFUSALS) == {"/triage", "/v1/chat/completions"}
