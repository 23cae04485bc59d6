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
        await over.wait()
        work(MINE / 2)
        return "done"

    async def theirs() -> None:
        work(THEIRS)
        over.set()

    other = asyncio.create_task(theirs())
    assert await cputime.Counted(mine(), spent.append) == "done"
    await other
    assert MINE <= spent[0] < THEIRS


async def test_a_cancellation_reaches_it_and_what_it_took_is_told() -> None:
    spent: list[float] = []
    heard: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    async def counted() -> None:
        await cputime.Counted(waits(), spent.append)

    task = asyncio.create_task(counted())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (heard, len(spent)) == (["cancelled"], 1)


async def test_an_error_comes_through() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("seen")

    with pytest.raises(ValueError, match="seen"):
        await cputime.Counted(fails(), lambda _: None)
