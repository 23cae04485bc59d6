"""Probes under load: long answers and a full queue trip nothing, a dead or stuck engine does."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Protocol

import httpx2
import pytest

ASK: dict[str, Any] = {"patient_mrn": "MRN-001", "query": "What now?"}
HANG_SECONDS = 30
KEY = {"X-API-Key": "right"}


class Runtime(Protocol):
    """A process of conftest.py."""

    public: str
    management: str


Start = Callable[..., Runtime]


@pytest.fixture
def begin(start: Start, pod_config: dict[str, Any], tmp_path: Any) -> Start:
    (tmp_path / "keys/api-key").write_text("right")

    def begin(*, active: int = 1, queued: int = 1, stuck: float = 60, **env: str) -> Runtime:
        limits = {
            "maxConcurrentRequests": active,
            "maxQueuedRequests": queued,
            "stuckStepSeconds": stuck,
            "drainSeconds": 0,
        }
        return start(CHATMODEL_CONFIG=json.dumps(pod_config | {"limits": limits}), **env)

    return begin


async def probes(client: httpx2.AsyncClient, runtime: Runtime) -> tuple[int, int]:
    """Return the statuses of liveness and readiness."""
    live = await client.get(f"{runtime.management}/livez")
    ready = await client.get(f"{runtime.management}/readyz")
    return live.status_code, ready.status_code


async def gauge(client: httpx2.AsyncClient, runtime: Runtime, name: str) -> float:
    text = (await client.get(f"{runtime.management}/metrics")).text
    line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
    return float(line.split()[1])


async def until(is_so: Callable[[], Any]) -> None:
    """Return once the condition holds."""
    async with asyncio.timeout(HANG_SECONDS):
        while not await is_so():
            await asyncio.sleep(0.01)


async def test_a_long_answer_and_a_full_queue_trip_no_probe(begin: Start) -> None:
    runtime = begin(MOCK_STEP_SECONDS="0.05")
    async with httpx2.AsyncClient(timeout=HANG_SECONDS, headers=KEY) as client:
        running = asyncio.create_task(client.post(f"{runtime.public}/triage", json=ASK))
        waiting = asyncio.create_task(client.post(f"{runtime.public}/triage", json=ASK))

        async def is_full() -> bool:
            return await gauge(client, runtime, "chatmodel_requests_waiting") == 1

        await until(is_full)
        refused = await client.post(f"{runtime.public}/triage", json=ASK)
        seen = [await probes(client, runtime) for _ in range(10)]
        assert refused.status_code == 429
        assert not waiting.done(), "the probes were answered while it waited"
        assert set(seen) == {(200, 200)}
        answers = await asyncio.gather(running, waiting)
        assert [answer.status_code for answer in answers] == [200, 200]


async def test_probes_are_answered_while_four_times_as_many_ask_as_there_is_room_for(
    begin: Start,
) -> None:
    runtime = begin(active=4, queued=4, MOCK_STEP_SECONDS="0.002")
    async with httpx2.AsyncClient(timeout=HANG_SECONDS, headers=KEY) as client:
        statuses: list[int] = []
        seen: list[tuple[int, int]] = []

        async def keep_asking() -> None:
            while len(seen) < 20:
                answer = await client.post(f"{runtime.public}/triage", json=ASK)
                statuses.append(answer.status_code)

        async def probe() -> None:
            while not {200, 429} <= set(statuses):
                await asyncio.sleep(0.01)
            for _ in range(20):
                seen.append(await probes(client, runtime))

        async with asyncio.timeout(HANG_SECONDS):
            await asyncio.gather(probe(), *(keep_asking() for _ in range(32)))
    assert set(seen) == {(200, 200)}
    assert set(statuses) == {200, 429}


async def test_an_engine_that_dies_fails_both_probes(begin: Start) -> None:
    runtime = begin(MOCK_FAULT="dies", MOCK_FAULT_AFTER="1")  # after the warm-up
    async with httpx2.AsyncClient(timeout=HANG_SECONDS, headers=KEY) as client:
        assert await probes(client, runtime) == (200, 200)
        assert (await client.post(f"{runtime.public}/triage", json=ASK)).status_code == 500
        assert await probes(client, runtime) == (503, 503)
        assert (await client.post(f"{runtime.public}/triage", json=ASK)).status_code == 503


async def test_a_step_that_does_not_end_fails_both_probes_once_it_took_too_long(
    begin: Start,
) -> None:
    runtime = begin(MOCK_FAULT="hangs", MOCK_FAULT_AFTER="1", stuck=0.5)
    async with httpx2.AsyncClient(timeout=HANG_SECONDS, headers=KEY) as client:
        assert await probes(client, runtime) == (200, 200)
        asked = asyncio.create_task(client.post(f"{runtime.public}/triage", json=ASK))

        async def have_failed() -> bool:
            return await probes(client, runtime) == (503, 503)

        await until(have_failed)
        assert not asked.done()
        asked.cancel()
