"""When an engine counts as dead or stuck, and when as merely busy."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from scripted_engine import ScriptedEngine

from chatmodel_runtime import generating, scheduling
from chatmodel_runtime.engines import Message, Sampling

BUDGET = generating.Budget(thinking=8, answer=16, sampling=Sampling())
QUESTION: list[Message] = [{"role": "user", "content": "q"}]
HANG_SECONDS = 10.0


async def nothing() -> None:
    """Warm up."""


async def started(engine: ScriptedEngine, step: float = 60.0) -> scheduling.Scheduler:
    """Return a scheduler whose engine is ready; a step may take so many seconds."""
    limits = scheduling.Deadlines(HANG_SECONDS, HANG_SECONDS, HANG_SECONDS, step)
    scheduler = scheduling.Scheduler(engine, scheduling.Room(8, 2), limits)
    await scheduler.start(nothing)
    return scheduler


@contextlib.asynccontextmanager
async def in_the_middle_of_a_step(
    engine: ScriptedEngine, step: float
) -> AsyncIterator[scheduling.Scheduler]:
    scheduler = await started(engine, step)
    engine.gate.clear()
    task = asyncio.create_task(scheduler.answer(QUESTION, BUDGET))
    await asyncio.wait_for(engine.running.acquire(), HANG_SECONDS)
    try:
        yield scheduler
    finally:
        engine.gate.set()
        await task


async def test_an_engine_whose_step_takes_too_long_is_broken() -> None:
    async with in_the_middle_of_a_step(ScriptedEngine(), 0.0) as scheduler:
        assert scheduler.is_broken()
        assert scheduler.state == "failed"


async def test_an_engine_in_the_middle_of_a_step_is_not() -> None:
    async with in_the_middle_of_a_step(ScriptedEngine(), 60.0) as scheduler:
        assert not scheduler.is_broken()
        assert scheduler.state == "ready"


async def test_twenty_of_the_slowest_steps_seen_may_take_longer() -> None:
    engine = ScriptedEngine()
    engine.pulse.slowest = 1000.0
    async with in_the_middle_of_a_step(engine, 0.0) as scheduler:
        assert not scheduler.is_broken()


async def test_a_dead_engine_is_broken() -> None:
    engine = ScriptedEngine()
    scheduler = await started(engine)
    engine.alive = False
    assert scheduler.is_broken()
    with pytest.raises(scheduling.NotReady):
        await scheduler.answer(QUESTION, BUDGET)


async def test_an_engine_that_only_fails_is_not_ready() -> None:
    engine = ScriptedEngine()
    scheduler = await started(engine)
    engine.fails_with = RuntimeError("dead")
    for _ in range(scheduling.MAX_FAILURES):
        with pytest.raises(RuntimeError):
            await scheduler.answer(QUESTION, BUDGET)
    assert scheduler.state == "failed"
    assert not scheduler.is_broken(), "a restart is not what helps"
