"""The work queue: each key once, one worker a key, pauses that grow and are forgotten."""

import asyncio

import pytest
from jumping import Work, run, settle

from chatmodel_operator import errors, workqueue
from chatmodel_operator.workqueue import WorkQueue

KEY, OTHER = ("clinic", "triage"), ("clinic", "assistant")
ENDED = RuntimeError("this pass fails")


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


def test_a_pass_that_wrote_is_followed_by_the_next_before_all_keys_that_wait() -> None:
    async def story() -> None:
        left, begun = {KEY: 3}, []

        async def work(*key: str) -> float | None:
            begun.append(key)
            left[key] = left.get(key, 0) - 1
            return 0.0 if left[key] > 0 else None

        queue = WorkQueue(work, workers=1)
        for key in (KEY, *((f"clinic-{number}", "triage") for number in range(1000))):
            queue.add(key)
        queue.start()
        await settle()
        await queue.stop()
        assert begun[:4] == [KEY, KEY, KEY, ("clinic-0", "triage")]

    run(story())


def test_a_key_that_never_ends_leaves_room_for_others() -> None:
    async def story() -> None:
        reached = asyncio.Event()

        async def work(*key: str) -> float | None:
            if key == OTHER:
                reached.set()
            return 0.0 if key == KEY else None

        queue = WorkQueue(work, workers=1)
        queue.add(KEY)
        queue.add(OTHER)
        queue.start()
        await asyncio.wait_for(reached.wait(), 60)
        await queue.stop()

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
        assert work.doubled == []

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
        assert work.doubled == []

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
        # The server's wish is stretched by up to a fifth, so that not everybody comes back at once.
        assert work.pauses()[0] < at_least * 1.2 + 1

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
