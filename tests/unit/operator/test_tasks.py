"""Tasks end for sure, also when a cancellation is taken for something else."""

import asyncio

import pytest

from chatmodel_operator import tasks


async def never() -> None:
    await asyncio.Event().wait()


async def deaf_once() -> None:
    try:
        await never()
    except asyncio.CancelledError:
        await never()


async def fails() -> None:
    raise ValueError


def test_a_task_that_misses_one_cancellation_is_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks, "REPEAT_SECONDS", 0.01)

    async def story() -> list[bool]:
        started = [asyncio.create_task(work()) for work in (never, deaf_once, fails)]
        await asyncio.sleep(0)
        await tasks.end(started)
        return [task.done() for task in started]

    assert asyncio.run(story()) == [True, True, True]


def test_nothing_to_end_is_no_wait() -> None:
    asyncio.run(tasks.end([]))
