"""When a drain window ends: at its end, or sooner, once nobody is sent to us any more."""

import asyncio
import time

from asgi_calls import CONFIG, call, serving

from chatmodel_runtime import draining, management, settings
from chatmodel_runtime.draining import FAILED_PROBES, LEAVING_SECONDS, QUIET_SECONDS

KUBELET = "kube-probe/1.36"
LONG = 60.0  # seconds; only a test that fails lasts so long


async def seconds_of(drain: draining.Drain, *user_agents: str, asked: int = 0) -> float:
    """Return how long a drain lasts in which these probes fail, then so many requests come."""

    async def lasts() -> float:
        begun = time.monotonic()
        await drain.run()
        return time.monotonic() - begun

    running = asyncio.create_task(lasts())
    await asyncio.sleep(0)
    for user_agent in user_agents:
        drain.note_probe(user_agent)
    for _ in range(asked):
        await asyncio.sleep(QUIET_SECONDS / 4)
        drain.note_request()
    return await running


async def test_it_ends_when_nobody_asks_after_the_kubelet_has_heard() -> None:
    seconds = await seconds_of(draining.Drain(LONG), *[KUBELET] * FAILED_PROBES)
    assert QUIET_SECONDS <= seconds + 0.01 < LONG


async def test_it_goes_on_while_requests_come() -> None:
    probes = [KUBELET] * FAILED_PROBES
    seconds = await seconds_of(draining.Drain(LONG), *probes, asked=8)
    assert 3 * QUIET_SECONDS <= seconds + 0.01 < LONG


async def test_it_never_lasts_longer_than_its_window() -> None:
    probes = [KUBELET] * FAILED_PROBES
    seconds = await seconds_of(draining.Drain(QUIET_SECONDS / 2), *probes, asked=8)
    assert seconds < QUIET_SECONDS


async def test_as_long_as_the_kubelet_calls_it_ready_it_lasts_for_all_of_its_window() -> None:
    probes = [KUBELET] * (FAILED_PROBES - 1) + ["a scraper/1.0"] * FAILED_PROBES
    window = 2 * QUIET_SECONDS
    assert await seconds_of(draining.Drain(window), *probes) + 0.01 >= window


async def test_probes_count_only_once_they_are_told_that_it_leaves() -> None:
    headers = {"user-agent": KUBELET}
    async with serving() as inside:
        verifier = management.Verifier(
            settings.ServeConfig.model_validate(CONFIG), inside.scheduler
        )
        drain = draining.Drain(LEAVING_SECONDS)
        app = management.build_serve_app(inside.scheduler, verifier, management.MainLoop(), drain)
        seen = [(await call(app, "GET", "/readyz", headers=headers)).status for _ in range(3)]
        assert seen == [200] * 3
        begun = time.monotonic()
        running = asyncio.create_task(drain.run())
        await asyncio.sleep(0.01)
        for _ in range(FAILED_PROBES):
            reply = await call(app, "GET", "/readyz", headers=headers)
            assert (reply.status, reply.json()) == (503, {"status": "leaving"})
        await running
        assert QUIET_SECONDS <= time.monotonic() - begun + 0.01 < LEAVING_SECONDS
