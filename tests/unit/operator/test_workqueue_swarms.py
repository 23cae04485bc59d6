"""Events at the work queue that come in swarms: one look, not at once, and not never."""

import asyncio

from jumping import Work, run, settle

from chatmodel_operator import errors
from chatmodel_operator.workqueue import SWARM_SECONDS, WorkQueue

KEY = ("clinic", "triage")


def test_a_swarm_of_events_is_one_look_a_moment_later() -> None:
    async def story() -> None:
        work = Work()
        queue = WorkQueue(work)
        queue.start()
        for _ in range(5):
            queue.nudge(KEY)
        await settle()
        await queue.stop()
        assert [key for key, _ in work.begun] == [KEY]
        assert 0 < work.begun[0][1] <= SWARM_SECONDS + 0.001

    run(story())


def test_events_without_end_do_not_put_a_look_off() -> None:
    async def story() -> None:
        work = Work()
        queue = WorkQueue(work)
        queue.start()
        for _ in range(10):
            queue.nudge(KEY)
            await asyncio.sleep(SWARM_SECONDS / 2)
        await settle()
        await queue.stop()
        assert len(work.begun) >= 4

    run(story())


def test_an_event_does_not_come_before_the_time_the_server_asked_for() -> None:
    async def story() -> None:
        work = Work(errors.Unavailable("GET x", "TooManyRequests", "wait", 30.0))
        queue = WorkQueue(work)
        queue.start()
        queue.add(KEY)
        await work.passes(1)
        await asyncio.sleep(1)
        queue.nudge(KEY)
        await settle()
        await queue.stop()
        assert work.pauses()[0] >= 30.0 - 0.01

    run(story())
