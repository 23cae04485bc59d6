"""When an engine counts as dead or stuck, and when as merely busy."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator

import pytest
from scripted_engine import ScriptedEngine
from standin_model import PATIENTS

from chatmodel_runtime import generating, prompts, scheduling
from chatmodel_runtime.engines import Message, Sampling
from chatmodel_runtime.engines.mock import MockTokenizer

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


@pytest.fixture
async def recovering() -> AsyncIterator[tuple[ScriptedEngine, scheduling.Scheduler]]:
    """Yield an engine that fails, and its scheduler, which has just given up on it."""
    engine = ScriptedEngine()
    limits = scheduling.Deadlines(HANG_SECONDS, HANG_SECONDS, HANG_SECONDS, retry=0.01)
    scheduler = scheduling.Scheduler(engine, scheduling.Room(8, 2), limits)

    async def warm_up() -> None:
        await scheduler.answer(QUESTION, BUDGET, ahead=True)

    await scheduler.start(warm_up)
    engine.fails_with = RuntimeError("for a while")
    for _ in range(scheduling.MAX_FAILURES):
        with pytest.raises(RuntimeError):
            await scheduler.answer(QUESTION, BUDGET)
    assert scheduler.state == "failed"
    with pytest.raises(scheduling.NotReady):
        await scheduler.answer(QUESTION, BUDGET)
    yield engine, scheduler
    scheduler.close()


async def tried(engine: ScriptedEngine, times: int) -> None:
    """Return once so many more questions have come to the engine."""
    before = len(engine.asked)
    async with asyncio.timeout(HANG_SECONDS):
        while len(engine.asked) < before + times:
            await asyncio.sleep(0.01)


async def test_an_engine_that_answers_again_is_ready_without_being_asked(
    recovering: tuple[ScriptedEngine, scheduling.Scheduler],
) -> None:
    engine, scheduler = recovering
    await tried(engine, 3)
    assert scheduler.state == "failed", "it was tried, and failed again"
    engine.fails_with = None
    await tried(engine, 1)
    async with asyncio.timeout(HANG_SECONDS):
        while scheduler.state != "ready":
            await asyncio.sleep(0.01)
    assert (await scheduler.answer(QUESTION, BUDGET)).text == "Rest."


async def test_a_second_run_of_failures_is_recovered_from_as_the_first(
    recovering: tuple[ScriptedEngine, scheduling.Scheduler],
) -> None:
    engine, scheduler = recovering
    for _ in range(2):
        engine.fails_with = None
        async with asyncio.timeout(HANG_SECONDS):
            while scheduler.state != "ready":
                await asyncio.sleep(0.01)
        engine.fails_with = RuntimeError("again")
        for _ in range(scheduling.MAX_FAILURES):
            with pytest.raises(RuntimeError):
                await scheduler.answer(QUESTION, BUDGET)
        assert scheduler.state == "failed"


class SlowTokenizer(MockTokenizer):
    """Says when it begins on a prompt, and ends when it is let go."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.at_once = self.most = 0

    def render(self, messages: list[Message], *, ask: bool = True) -> str:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.began.release()
        self.go.acquire()
        self.at_once -= 1
        return super().render(messages, ask=ask)


class NotedTokenizer(MockTokenizer):
    """Notes in which threads it works."""

    def __init__(self) -> None:
        self.threads: set[str] = set()

    def render(self, messages: list[Message], *, ask: bool = True) -> str:
        self.threads.add(threading.current_thread().name)
        return super().render(messages, ask=ask)


@pytest.mark.parametrize(("letters", "beside"), [(1000, False), (1001, True)])
async def test_only_texts_of_a_few_milliseconds_are_made_into_tokens_on_the_event_loop(
    letters: int, beside: bool
) -> None:
    engine = ScriptedEngine(max_active=4)
    engine.context_tokens = 10**6
    scheduler = await started(engine)
    engine.tokenizer = noted = NotedTokenizer()
    await scheduler.answer([{"role": "user", "content": "a" * letters}], BUDGET)
    ours = threading.current_thread().name
    assert [name == ours for name in noted.threads] == [not beside]
    scheduler.close()


def test_a_question_about_a_demo_patient_is_short() -> None:
    query = "What are my current medications, and may I take ibuprofen with them?"
    for patient in json.loads(PATIENTS.read_text()):
        messages = prompts.build_triage_messages(query, patient["summary"])
        assert sum(len(m["content"]) for m in messages) < scheduling.LONG_TEXT / 2


async def test_long_prompts_are_made_into_tokens_one_at_a_time_beside_the_event_loop() -> None:
    engine = ScriptedEngine(max_active=4)
    engine.context_tokens = 10**6
    scheduler = await started(engine)
    engine.tokenizer = slow = SlowTokenizer()
    long: list[Message] = [{"role": "user", "content": "a " * scheduling.LONG_TEXT}]
    asked = [asyncio.create_task(scheduler.answer(long, BUDGET)) for _ in range(3)]
    left = asyncio.create_task(scheduler.answer(long, BUDGET))
    for number in range(3):
        await asyncio.to_thread(slow.began.acquire)
        if number == 0:
            left.cancel()  # while it waits for its turn
        slow.go.release()
    answers = await asyncio.gather(*asked)
    assert [answer.text for answer in answers] == ["Rest."] * 3
    assert slow.most == 1
    assert left.cancelled() and len(engine.asked) == 3
    scheduler.close()
