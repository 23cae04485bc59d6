"""Queue, deadlines, cancellation, health: with an engine that does as it is told."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from chatmodel_runtime import scheduling
from chatmodel_runtime.engines import Cancelled, Completion, Message, Sampling
from chatmodel_runtime.errors import BadModel

BUDGET = scheduling.Budget(thinking=8, answer=16, sampling=Sampling())
SECONDS = 10.0


class ScriptedEngine:
    """Says what it is told to say; while the gate is shut it works until it is cancelled."""

    name = "Scripted"

    def __init__(self, *texts: str, thinks: bool = False, workers: int = 1) -> None:
        self.workers = workers
        self.gate = threading.Event()
        self.gate.set()
        self.running = threading.Semaphore(0)
        self.asked: list[tuple[str, str, str | None, int]] = []
        self.cancelled = threading.Event()
        self.fails_with: BaseException | None = None
        self._texts = list(texts) or ["Rest."]
        self._thinks = thinks

    def load(self) -> None:
        if self.fails_with is not None:
            raise self.fails_with

    def opens_thinking(self) -> bool:
        return self._thinks

    def complete(
        self,
        messages: list[Message],
        *,
        prefix: str = "",
        stop: str | None = None,
        max_tokens: int,
        sampling: Sampling,
        is_cancelled: Callable[[], bool],
        beat: Callable[[], None],
    ) -> Completion:
        beat()
        self.asked.append((messages[-1]["content"], prefix, stop, max_tokens))
        self.running.release()
        while not self.gate.wait(0.005):
            if is_cancelled():
                self.cancelled.set()
                raise Cancelled
        if self.fails_with is not None:
            raise self.fails_with
        text = self._texts.pop(0) if len(self._texts) > 1 else self._texts[0]
        return Completion(text, 7, len(text.split()), "stop")


async def nothing() -> None:
    """Warm up."""


def question(text: str = "q") -> list[Message]:
    return [{"role": "user", "content": text}]


Make = Callable[..., "asyncio.Future[scheduling.Scheduler]"]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[tuple[scheduling.Scheduler, ScriptedEngine]] = []

    async def build(
        engine: ScriptedEngine, *, queued: int = 2, deadline: float = SECONDS
    ) -> scheduling.Scheduler:
        scheduler = scheduling.Scheduler(
            engine, max_active=8, max_queued=queued, deadline_seconds=deadline
        )
        made.append((scheduler, engine))
        await scheduler.start(nothing)
        return scheduler

    yield lambda *args, **options: asyncio.ensure_future(build(*args, **options))
    for scheduler, engine in made:
        engine.gate.set()
        scheduler.close()


async def begun(engine: ScriptedEngine) -> None:
    assert await asyncio.to_thread(engine.running.acquire, timeout=SECONDS)


async def test_a_model_that_thinks_is_stopped_at_the_closing_tag_and_goes_on(make: Make) -> None:
    engine = ScriptedEngine("it is mild</think>", "Rest.", thinks=True)
    made = await (await make(engine)).answer(question(), BUDGET)
    assert (made.thinking, made.text, made.thinking_truncated) == ("it is mild", "Rest.", False)
    assert [(prefix, stop, most) for _, prefix, stop, most in engine.asked] == [
        ("", "</think>", 8),
        ("it is mild\n</think>\n\n", None, 16),
    ]
    assert (made.prompt_tokens, made.tokens) == (7, 4)


async def test_thinking_that_reaches_its_limit_is_closed_and_said(make: Make) -> None:
    engine = ScriptedEngine("still thinking", "Rest.", thinks=True)
    made = await (await make(engine)).answer(question(), BUDGET)
    assert (made.text, made.thinking_truncated) == ("Rest.", True)
    assert engine.asked[1][1] == "still thinking\n</think>\n\n"


async def test_no_thinking_budget_means_that_thinking_is_closed_at_once(make: Make) -> None:
    engine = ScriptedEngine("Rest.", thinks=True)
    budget = scheduling.Budget(thinking=0, answer=16, sampling=Sampling())
    made = await (await make(engine)).answer(question(), budget)
    assert (made.text, len(engine.asked), engine.asked[0][1]) == ("Rest.", 1, "\n</think>\n\n")


async def test_a_model_that_does_not_think_answers_at_once(make: Make) -> None:
    engine = ScriptedEngine("Rest.")
    made = await (await make(engine)).answer(question(), BUDGET)
    assert (made.text, made.thinking, engine.asked) == ("Rest.", "", [("q", "", None, 16)])


async def test_thinking_that_the_model_opens_itself_is_no_part_of_the_answer(make: Make) -> None:
    engine = ScriptedEngine("<think>it is mild</think>\n\nRest.")
    assert (await (await make(engine)).answer(question(), BUDGET)).text == "Rest."


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
    assert [content for content, *_ in engine.asked] == list("01234")


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
    assert engine.asked[1][0] == "verify"


async def test_a_request_past_its_deadline_ends_and_stops_the_engine(make: Make) -> None:
    engine = ScriptedEngine()
    scheduler = await make(engine, deadline=0.1)
    engine.gate.clear()
    with pytest.raises(scheduling.DeadlineExceeded):
        await scheduler.answer(question(), BUDGET)
    assert await asyncio.to_thread(engine.cancelled.wait, SECONDS)
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
    with pytest.raises(Cancelled):
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
    scheduler = scheduling.Scheduler(engine, max_active=1, max_queued=1, deadline_seconds=1)
    with pytest.raises(scheduling.NotReady):
        await scheduler.answer(question(), BUDGET)
    scheduler.close()


async def test_readiness_comes_after_load_and_warm_up() -> None:
    engine = ScriptedEngine()
    scheduler = scheduling.Scheduler(engine, max_active=1, max_queued=1, deadline_seconds=1)
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
    scheduler = scheduling.Scheduler(engine, max_active=1, max_queued=1, deadline_seconds=1)
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


@pytest.fixture
async def stuck(make: Make, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[scheduling.Scheduler]:
    engine = ScriptedEngine()
    scheduler = await make(engine)
    engine.gate.clear()
    task = asyncio.create_task(scheduler.answer(question(), BUDGET))
    await begun(engine)
    assert not scheduler.is_stuck()
    monkeypatch.setattr(scheduling, "STUCK_SECONDS", 0.0)
    yield scheduler
    engine.gate.set()
    await task


async def test_a_generation_without_a_step_for_a_minute_is_stuck(
    stuck: scheduling.Scheduler,
) -> None:
    assert stuck.is_stuck()


async def test_a_stuck_engine_is_not_ready(stuck: scheduling.Scheduler) -> None:
    assert stuck.state != "ready"


async def test_an_engine_that_only_fails_is_not_ready(make: Make) -> None:
    engine = ScriptedEngine()
    scheduler = await make(engine)
    engine.fails_with = RuntimeError("dead")
    for _ in range(20):
        with pytest.raises(RuntimeError):
            await scheduler.answer(question(), BUDGET)
    assert scheduler.state != "ready"
