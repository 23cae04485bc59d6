"""The management port beside the main loop: answered while that is busy, failing once it hangs."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable

import fastapi
import httpx2
from asgi_calls import CONFIG, Inside, call, serving
from scripted_engine import ScriptedEngine

from chatmodel_runtime import draining, management, scheduling, server, settings

HANG_SECONDS = 20
KUBELET = {"user-agent": "kube-probe/1.36"}


async def nothing() -> None:
    """Nothing to load."""


def status_of(url: str) -> int:
    try:
        return httpx2.get(url, timeout=HANG_SECONDS).status_code
    except httpx2.ConnectError:
        return 0


def until(status: int, url: str) -> None:
    """Return once that is answered."""
    end = time.monotonic() + HANG_SECONDS
    while (seen := status_of(url)) != status:
        assert time.monotonic() < end, f"{url} still answers {seen}"
        time.sleep(0.01)


@contextlib.asynccontextmanager
async def managed(inside: Inside, silent_seconds: float = HANG_SECONDS) -> AsyncIterator[str]:
    """Yield where the management port of a runtime listens, served by its own thread."""
    config = settings.ServeConfig.model_validate(CONFIG)
    drain = draining.Drain(0)
    probes = management.build_serve_app(
        inside.scheduler,
        management.Verifier(config, inside.scheduler),
        management.MainLoop(silent_seconds),
        drain,
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    servers = server.Servers(drain)
    servers.add(probes, "127.0.0.1", port, beside=True)
    running = asyncio.create_task(servers.run(nothing()))
    url = f"http://127.0.0.1:{port}"
    await asyncio.to_thread(until, 200, f"{url}/readyz")
    yield url
    running.cancel()
    await asyncio.wait({running})


def hang_while(look: Callable[[], None]) -> None:
    """Keep the event loop of the test from turning until the look is over."""
    looking = threading.Thread(target=look)
    looking.start()
    looking.join(HANG_SECONDS)
    assert not looking.is_alive()


async def test_probes_are_answered_while_the_main_loop_does_not_turn() -> None:
    async with serving() as inside, managed(inside) as url:
        seen: list[int] = []
        hang_while(lambda: seen.extend(status_of(f"{url}/{path}") for path in ("livez", "readyz")))
        assert seen == [200, 200]


async def test_a_main_loop_that_hangs_fails_both_probes_until_it_turns_again() -> None:
    async with serving() as inside, managed(inside, silent_seconds=0.5) as url:
        seen: list[int] = []

        def look() -> None:
            until(503, f"{url}/livez")
            seen.append(status_of(f"{url}/readyz"))

        hang_while(look)
        assert seen == [503]
        for path in ("livez", "readyz"):
            await asyncio.to_thread(until, 200, f"{url}/{path}")


async def test_a_loop_that_turns_is_not_silent_however_long_nothing_else_happens() -> None:
    main_loop = management.MainLoop(0.1)
    async with asyncio.timeout(HANG_SECONDS):
        for _ in range(10):
            await asyncio.sleep(0.05)
            assert not main_loop.is_silent()


async def test_verification_from_the_other_thread_asks_the_engine_in_the_main_loop() -> None:
    async with serving() as inside, managed(inside) as url:
        answer = await asyncio.to_thread(httpx2.post, f"{url}/verify", timeout=HANG_SECONDS)
        assert (answer.status_code, answer.json()["ok"]) == (200, True)
        assert (inside.scheduler.active, inside.scheduler.queued) == (0, 0)


async def test_a_verification_waits_for_a_main_loop_that_is_busy() -> None:
    async with serving() as inside, managed(inside) as url:
        statuses: list[int] = []

        def ask() -> None:
            statuses.append(httpx2.post(f"{url}/verify", timeout=HANG_SECONDS).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        hang_while(lambda: until(200, f"{url}/metrics"))
        assert statuses == [], "it was answered by the loop that hung"
        await asyncio.to_thread(asking.join, HANG_SECONDS)
        assert statuses == [200]


async def test_the_kubelet_hears_at_once_that_it_is_ready_and_others_are_not_held_up() -> None:
    scheduler, loads = loading()
    app = probes_of(scheduler)
    starting = asyncio.create_task(scheduler.start(nothing))
    asked = asyncio.create_task(call(app, "GET", "/readyz", headers=KUBELET))
    seen = await call(app, "GET", "/readyz")
    assert (seen.status, seen.json()) == (503, {"status": "starting"})
    assert not asked.done()
    loads.set()
    assert (await asked).status == 200
    await starting


async def test_the_kubelet_is_answered_before_its_next_probe_is_due() -> None:
    scheduler, loads = loading()
    starting = asyncio.create_task(scheduler.start(nothing))
    begun = time.monotonic()
    seen = await call(probes_of(scheduler), "GET", "/readyz", headers=KUBELET)
    assert (seen.status, seen.json()) == (503, {"status": "starting"})
    assert time.monotonic() - begun + 0.01 >= management.HOLD_SECONDS
    loads.set()
    await starting


def loading() -> tuple[scheduling.Scheduler, threading.Event]:
    """Return a scheduler whose engine loads until the event."""
    engine, loads = ScriptedEngine(), threading.Event()
    engine.load = lambda: loads.wait(HANG_SECONDS)  # type: ignore[method-assign]
    deadlines = scheduling.Deadlines(HANG_SECONDS, HANG_SECONDS, HANG_SECONDS)
    return scheduling.Scheduler(engine, scheduling.Room(1, 1), deadlines), loads


def probes_of(scheduler: scheduling.Scheduler) -> fastapi.FastAPI:
    """Return the management application."""
    config = settings.ServeConfig.model_validate(CONFIG)
    verifier = management.Verifier(config, scheduler)
    drain = draining.Drain(0)
    return management.build_serve_app(scheduler, verifier, management.MainLoop(), drain)
