"""The CPU of a coroutine's own steps: what others take while it waits is not its own."""

import asyncio
import time

import pytest

from chatmodel_operator import cputime

MINE, THEIRS = 0.02, 0.2


def work(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def test_what_runs_while_it_waits_is_not_counted() -> None:
    spent: list[float] = []
    over = asyncio.Event()

    async def mine() -> str:
        work(MINE / 2)
        with cputime.Waiting(), cputime.Waiting():  # a request of a live reading
            await over.wait()
        work(MINE / 2)
        return "done"

    async def theirs() -> None:
        work(THEIRS)
        over.set()

    other = asyncio.create_task(theirs())
    assert await cputime.counted(mine(), spent.append) == "done"
    await other
    assert MINE <= spent[0] < THEIRS


async def test_a_cancellation_reaches_it_and_what_it_took_is_told() -> None:
    spent: list[float] = []
    heard: list[str] = []

    async def waits() -> None:
        try:
            with cputime.Waiting():
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    task = asyncio.create_task(cputime.counted(waits(), spent.append))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (heard, len(spent)) == (["cancelled"], 1)


async def test_what_a_pass_has_begun_does_not_stop_its_clock() -> None:
    spent: list[float] = []

    async def begun() -> None:
        with cputime.Waiting():
            await asyncio.Event().wait()

    async def mine() -> asyncio.Task[None]:
        task = asyncio.create_task(begun())
        with cputime.Waiting():
            await asyncio.sleep(0)
        work(MINE)
        return task

    task = await cputime.counted(mine(), spent.append)
    task.cancel()
    assert spent[0] >= MINE


async def test_an_error_comes_through() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("seen")

    with pytest.raises(ValueError, match="seen"):
        await cputime.counted(fails(), lambda _: None)
