"""Queue, deadlines, cancellation: with an engine that does as it is told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from scripted_engine import ScriptedEngine

from chatmodel_runtime import generating, scheduling, waiting
from chatmodel_runtime.engines import Message, Sampling
from chatmodel_runtime.errors import BadModel

BUDGET = generating.Budget(thinking=8, answer=16, sampling=Sampling())
SECONDS = 10.0


async def nothing() -> None:
    """Warm up."""


def question(text: str = "q") -> list[Message]:
    return [{"role": "user", "content": text}]


def content(engine: ScriptedEngine, number: int) -> str:
    """Return the question of a submission."""
    return engine.said_to(number).removeprefix("\x01user\x02").removesuffix("\x03")


Make = Callable[..., "asyncio.Future[scheduling.Scheduler]"]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[tuple[scheduling.Scheduler, ScriptedEngine]] = []

    async def build(
        engine: ScriptedEngine,
        *,
        queued: int = 2,
        deadline: float = SECONDS,
        first: float = SECONDS,
        idle: float = SECONDS,
    ) -> scheduling.Scheduler:
        limits = scheduling.Deadlines(total=deadline, first=first, idle=idle)
        scheduler = scheduling.Scheduler(engine, scheduling.Room(8, queued), limits)
        made.append((scheduler, engine))
        await scheduler.start(nothing)
        return scheduler

    yield lambda *args, **options: asyncio.ensure_future(build(*args, **options))
    for scheduler, engine in made:
        engine.gate.set()
        scheduler.close()


async def begun(engine: ScriptedEngine) -> None:
    await asyncio.wait_for(engine.running.acquire(), SECONDS)


def bare(engine: ScriptedEngine) -> scheduling.Scheduler:
    limits = scheduling.Deadlines(total=1, first=1, idle=1)
    return scheduling.Scheduler(engine, scheduling.Room(1, 1), limits)


async def test_beyond_worker_and_queue_a_request_is_refused_at_once(make: Make) -> None:
    engine = ScriptedEngine()
    scheduler = await make(engine, queued=2)
    engine.gate.clear()
    asked = [asyncio.create_task(scheduler.answer(question(), BUDGET)) for _ in range(3)]
    await begun(engine)
    with pytest.raises(scheduling.Overloaded) as caught:
        await scheduler.answer(question(), BUDGET)
    assert caught.value.retry_after >= 1
    engine.gate.set()
    assert [(await task).text for task in asked] == ["Rest."] * 3
    assert (await scheduler.answer(question(), BUDGET)).text == "Rest."


async def test_requests_are_answered_in_their_order(make: Make) -> None:
    engine = ScriptedEngine()
    scheduler = await make(engine, queued=5)
    engine.gate.clear()
    tasks = [asyncio.create_task(scheduler.answer(question(str(i)), BUDGET)) for i in range(5)]
    await begun(engine)
    engine.gate.set()
    await asyncio.gather(*tasks)
    assert [content(engine, i) for i in range(5)] == list("01234")


async def test_verification_goes_ahead_of_the_public_queue(make: Make) -> None:
    engine = ScriptedEngine()
    scheduler = await make(engine, queued=5)
    engine.gate.clear()
    tasks = [asyncio.create_task(scheduler.answer(question(str(i)), BUDGET)) for i in range(4)]
    await begun(engine)
    tasks.append(asyncio.create_task(scheduler.answer(question("verify"), BUDGET, ahead=True)))
    await asyncio.sleep(0)
    engine.gate.set()
    await asyncio.gather(*tasks)
    assert content(engine, 1) == "verify"


async def test_a_request_past_its_deadline_ends_and_stops_the_engine(make: Make) -> None:
    engine = ScriptedEngine()
    scheduler = await make(engine, first=0.1)
    engine.gate.clear()
    with pytest.raises(waiting.DeadlineExceeded):
        await scheduler.answer(question(), BUDGET)
    assert engine.cancelled == 1
    engine.gate.set()
    assert (await scheduler.answer(question(), BUDGET)).text == "Rest."


async def test_a_client_that_leaves_stops_its_generation(make: Make) -> None:
    engine = ScriptedEngine()
    scheduler = await make(engine)
    engine.gate.clear()
    gone = False

    async def is_gone() -> bool:
        return gone

    task = asyncio.create_task(scheduler.answer(question(), BUDGET, is_gone))
    await begun(engine)
    gone = True
    with pytest.raises(waiting.ClientGone):
        await task
    engine.gate.set()
    assert (await scheduler.answer(question(), BUDGET)).text == "Rest."


async def test_a_client_that_leaves_the_queue_gives_its_place_back(make: Make) -> None:
    engine = ScriptedEngine()
    scheduler = await make(engine, queued=1)
    engine.gate.clear()
    busy = asyncio.create_task(scheduler.answer(question("busy"), BUDGET))
    await begun(engine)

    async def is_gone() -> bool:
        return True

    waiting = asyncio.create_task(scheduler.answer(question("left"), BUDGET, is_gone))
    done, _ = await asyncio.wait({waiting}, timeout=1)
    engine.gate.set()
    await asyncio.gather(busy, waiting, return_exceptions=True)
    assert waiting in done


async def test_nothing_is_answered_before_the_model_is_ready() -> None:
    engine = ScriptedEngine()
    scheduler = bare(engine)
    with pytest.raises(scheduling.NotReady):
        await scheduler.answer(question(), BUDGET)
    scheduler.close()


async def test_readiness_comes_after_load_and_warm_up() -> None:
    engine = ScriptedEngine()
    scheduler = bare(engine)
    states: list[str] = []

    async def warm_up() -> None:
        states.append(scheduler.state)
        assert (await scheduler.answer(question(), BUDGET, ahead=True)).text == "Rest."

    await scheduler.start(warm_up)
    assert (states, scheduler.state) == (["starting"], "ready")
    scheduler.close()


async def test_a_model_that_does_not_load_fails_the_start() -> None:
    engine = ScriptedEngine()
    engine.fails_with = BadModel("ModelLoadFailed", "x")
    scheduler = bare(engine)
    with pytest.raises(BadModel):
        await scheduler.start(nothing)
    assert scheduler.state == "failed"
    scheduler.close()


async def test_a_request_that_fails_frees_its_worker(make: Make) -> None:
    engine = ScriptedEngine()
    scheduler = await make(engine, queued=0)
    engine.fails_with = ArithmeticError("x")
    with pytest.raises(ArithmeticError):
        await scheduler.answer(question(), BUDGET)
    engine.fails_with = None
    assert (await scheduler.answer(question(), BUDGET)).text == "Rest."


async def test_waiting_in_the_queue_counts_for_the_first_piece(make: Make) -> None:
    engine = ScriptedEngine()
    scheduler = await make(engine, queued=1, first=0.05, deadline=9)
    engine.gate.clear()
    busy = asyncio.create_task(scheduler.answer(question(), BUDGET))
    await begun(engine)
    with pytest.raises(waiting.DeadlineExceeded):
        await scheduler.answer(question(), BUDGET)
    with pytest.raises(waiting.DeadlineExceeded):
        await busy
    assert (scheduler.active, scheduler.queued) == (0, 0)


async def test_a_stream_that_falls_silent_ends(make: Make) -> None:
    engine = ScriptedEngine("a b c")
    scheduler = await make(engine, idle=0.05)
    with pytest.raises(waiting.DeadlineExceeded):
        async with contextlib.aclosing(scheduler.stream(question(), BUDGET)) as items:
            async for _ in items:
                engine.silent = True
    assert engine.cancelled == 1


async def test_a_reader_that_leaves_a_stream_stops_its_generation(make: Make) -> None:
    engine = ScriptedEngine("a b c d e")
    scheduler = await make(engine)
    async with contextlib.aclosing(scheduler.stream(question(), BUDGET)) as items:
        await anext(items)
        assert (scheduler.active, scheduler.queued) == (1, 0)
    assert (engine.cancelled, scheduler.active) == (1, 0)
    assert (await scheduler.answer(question(), BUDGET)).text


async def test_a_stream_ends_with_the_whole_answer(make: Make) -> None:
    scheduler = await make(ScriptedEngine("a b c"))
    items = [item async for item in scheduler.stream(question(), BUDGET)]
    last = items.pop()
    assert isinstance(last, generating.Answer)
    assert "".join(item.answer for item in items if not isinstance(item, generating.Answer)) == (
        last.text
    )


async def test_as_many_run_at_once_as_engine_and_limit_allow(make: Make) -> None:
    engine = ScriptedEngine(max_active=3)
    scheduler = await make(engine, queued=5)
    engine.gate.clear()
    tasks = [asyncio.create_task(scheduler.answer(question(), BUDGET)) for _ in range(5)]
    for _ in range(3):
        await begun(engine)
    assert (scheduler.active, scheduler.queued) == (3, 2)
    engine.gate.set()
    await asyncio.gather(*tasks)
    assert (scheduler.active, scheduler.queued) == (0, 0)
