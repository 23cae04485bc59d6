"""The work queue, on a loop whose clock jumps to the next timer: no test waits for one."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from chatmodel_operator import errors, workqueue
from chatmodel_operator.workqueue import Key, WorkQueue

KEY, OTHER = ("clinic", "triage"), ("clinic", "assistant")
ENDED = RuntimeError("this pass fails")


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits for a timer: it says how long it would have waited."""

    jumped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            return super().select(None)
        self.jumped += max(timeout, 0.0)
        return super().select(0)


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.jumped


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        runner.run(main)


class Work:
    """What a queue's workers do: note the time, wait for the gate, end as the script says."""

    def __init__(self, *script: float | Exception | None) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun: list[tuple[Key, float]] = []
        self.busy: list[Key] = []
        self.most_at_once = 0
        self._script = list(script)
        self._changed = asyncio.Condition()

    async def __call__(self, namespace: str, name: str) -> float | None:
        key = (namespace, name)
        assert key not in self.busy, "two workers have the same key"
        self.busy.append(key)
        self.most_at_once = max(self.most_at_once, len(self.busy))
        self.begun.append((key, asyncio.get_running_loop().time()))
        await self._tell()
        await self.gate.wait()
        self.busy.remove(key)
        await self._tell()
        ending = self._script.pop(0) if self._script else None
        if isinstance(ending, Exception):
            raise ending
        return ending

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(is_so)

    async def passes(self, count: int) -> None:
        """Return once so many passes are over."""
        await self.until(lambda: len(self.begun) >= count and not self.busy)

    def pauses(self) -> list[float]:
        times = [time for _, time in self.begun]
        return [after - before for before, after in zip(times, times[1:], strict=False)]


async def settle() -> None:
    """Let everything happen that is due now or ever: jump over all timers."""
    await asyncio.sleep(100_000)


def test_a_key_that_waits_is_looked_at_once() -> None:
    async def story() -> None:
        work = Work()
        queue = WorkQueue(work)
        for _ in range(5):
            queue.add(KEY)
        queue.add(OTHER)
        queue.start()
        await settle()
        await queue.stop()
        assert sorted(key for key, _ in work.begun) == [OTHER, KEY]

    run(story())


def test_a_key_has_one_worker_and_other_keys_have_others() -> None:
    async def story() -> None:
        work = Work()
        work.gate.clear()
        queue = WorkQueue(work, workers=4)
        queue.start()
        queue.add(KEY)
        await work.until(lambda: KEY in work.busy)
        queue.add(KEY)
        queue.add(OTHER)
        await work.until(lambda: OTHER in work.busy)
        assert sorted(work.busy) == [OTHER, KEY]
        work.gate.set()
        await settle()
        await queue.stop()
        assert work.most_at_once == 2

    run(story())


def test_adding_during_the_work_gives_exactly_one_more() -> None:
    async def story() -> None:
        work = Work()
        work.gate.clear()
        queue = WorkQueue(work)
        queue.start()
        queue.add(KEY)
        await work.until(lambda: KEY in work.busy)
        for _ in range(5):
            queue.add(KEY)
        work.gate.set()
        await settle()
        await queue.stop()
        assert len(work.begun) == 2

    run(story())


def test_fewer_workers_than_keys_get_to_all_of_them() -> None:
    async def story() -> None:
        work = Work()
        queue = WorkQueue(work, workers=2)
        queue.start()
        for n in range(20):
            queue.add(("clinic", f"model-{n}"))
        await settle()
        await queue.stop()
        assert len(work.begun) == 20
        assert work.most_at_once <= 2

    run(story())


@pytest.mark.parametrize(
    ("wish", "pause"),
    [
        pytest.param(0.0, 0.0, id="at once"),
        pytest.param(2.0, 2.0, id="after two seconds"),
        pytest.param(3600.0, 3600.0, id="after an hour"),
    ],
)
def test_a_pass_can_ask_for_the_next_one(wish: float, pause: float) -> None:
    async def story() -> None:
        work = Work(wish)
        queue = WorkQueue(work)
        queue.start()
        queue.add(KEY)
        await settle()
        await queue.stop()
        assert work.pauses() == [pytest.approx(pause, abs=0.01)]

    run(story())


def test_an_event_comes_before_the_wish_and_takes_its_place() -> None:
    async def story() -> None:
        work = Work(3600.0)
        queue = WorkQueue(work)
        queue.start()
        queue.add(KEY)
        await work.passes(1)
        await asyncio.sleep(1)
        queue.add(KEY)
        await settle()
        await queue.stop()
        assert work.pauses() == [pytest.approx(1.0, abs=0.01)]

    run(story())


def test_a_later_wish_takes_the_place_of_an_earlier_one() -> None:
    async def story() -> None:
        work = Work()
        queue = WorkQueue(work)
        queue.start()
        queue.add_after(KEY, 5)
        queue.add_after(KEY, 50)
        await settle()
        await queue.stop()
        assert [time for _, time in work.begun] == [pytest.approx(50, abs=0.01)]

    run(story())


def conflict() -> errors.Conflict:
    return errors.Conflict("PATCH x", "Conflict", "the object has been modified")


def test_pauses_grow_with_failures_and_have_an_end() -> None:
    async def story() -> None:
        work = Work(*(conflict() for _ in range(12)))
        queue = WorkQueue(work)
        queue.start()
        queue.add(KEY)
        await settle()
        await queue.stop()
        wanted = [min(workqueue.FIRST_PAUSE * 2**n, workqueue.LONGEST_PAUSE) for n in range(12)]
        assert len(work.pauses()) == 12
        for pause, middle in zip(work.pauses(), wanted, strict=True):
            assert 0.8 * middle - 0.01 <= pause <= 1.2 * middle + 0.01

    run(story())


def test_a_success_makes_the_pauses_short_again() -> None:
    async def story() -> None:
        work = Work(*(conflict() for _ in range(6)), 1.0, conflict())
        queue = WorkQueue(work)
        queue.start()
        queue.add(KEY)
        await settle()
        await queue.stop()
        assert work.pauses()[5] > 5
        assert work.pauses()[-1] < 0.3

    run(story())


def test_one_key_that_fails_does_not_slow_down_another() -> None:
    async def story() -> None:
        work = Work(*(conflict() for _ in range(6)), None, conflict(), None)
        queue = WorkQueue(work)
        queue.start()
        queue.add(KEY)
        await work.passes(7)
        queue.add(OTHER)
        await settle()
        await queue.stop()
        assert [key for key, _ in work.begun[-2:]] == [OTHER, OTHER]
        assert work.pauses()[-1] < 0.3

    run(story())


@pytest.mark.parametrize(
    ("error", "at_least"),
    [
        pytest.param(
            errors.Unavailable("GET x", "TooManyRequests", "wait", retry_after=30.0),
            30.0,
            id="the server's wish counts",
        ),
        pytest.param(
            errors.Rejected("PATCH x", "Forbidden", "no"), 0.16, id="a refusal is tried again"
        ),
        pytest.param(ENDED, 1.0, id="an unknown error leaves a second"),
    ],
)
def test_an_error_has_its_own_pause(error: Exception, at_least: float) -> None:
    async def story() -> None:
        work = Work(error)
        queue = WorkQueue(work)
        queue.start()
        queue.add(KEY)
        await settle()
        await queue.stop()
        assert work.pauses()[0] >= at_least - 0.01
        assert work.pauses()[0] < at_least + 1

    run(story())


def test_events_during_a_failing_pass_do_not_cut_its_pause() -> None:
    async def story() -> None:
        work = Work(ENDED)
        work.gate.clear()
        queue = WorkQueue(work)
        queue.start()
        queue.add(KEY)
        await work.until(lambda: KEY in work.busy)
        queue.add(KEY)
        work.gate.set()
        await settle()
        await queue.stop()
        assert work.pauses() == [pytest.approx(1.0, abs=0.01)]

    run(story())


def test_after_the_stop_nothing_is_done() -> None:
    async def story() -> None:
        work = Work()
        queue = WorkQueue(work)
        queue.start()
        queue.add_after(KEY, 5)
        await queue.stop()
        queue.add(OTHER)
        await settle()
        assert work.begun == []

    run(story())


def test_a_stop_cuts_off_what_is_under_way() -> None:
    async def story() -> None:
        work = Work()
        work.gate.clear()
        queue = WorkQueue(work)
        queue.start()
        queue.add(KEY)
        await work.until(lambda: KEY in work.busy)
        await queue.stop()
        work.gate.set()
        await settle()
        assert work.busy == [KEY]  # begun, and never ended

    run(story())
