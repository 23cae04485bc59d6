"""Waiting for what an engine makes: so long and no longer, and only while a client is there.

Called by `scheduling`. Knows nothing of engines and answers.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
IsGone = Callable[[], Awaitable[bool]]
ASK_SECONDS = 0.5  # between two looks at whether a client is still there


class DeadlineExceeded(Exception):
    """The request took longer than it may."""


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


async def in_time(items: AsyncGenerator[T], until: float) -> T | None:
    """Return the next one, or None after the last. Raises `DeadlineExceeded`.

    `until` is of `time.monotonic`.
    """
    try:
        async with asyncio.timeout(until - time.monotonic()):
            return await anext(items, None)
    except TimeoutError:
        raise DeadlineExceeded from None


async def unless_gone(work: Awaitable[T], is_gone: IsGone) -> T:
    """Return the work's result, or cancel it when the client has left. Raises `ClientGone`.

    Most answers are there before the first look: only then it costs anything.
    """
    looking: list[asyncio.Task[None]] = []
    try:
        async with asyncio.timeout(None) as patience:

            def look() -> None:
                looking.append(asyncio.create_task(_watch(is_gone, patience)))

            timer = asyncio.get_running_loop().call_later(ASK_SECONDS, look)
            return await work
    except TimeoutError:
        if patience.expired():
            raise ClientGone from None
        raise
    finally:
        timer.cancel()
        for task in looking:
            task.cancel()


async def _watch(is_gone: IsGone, patience: asyncio.Timeout) -> None:
    while not await is_gone():  # noqa: ASYNC110 - the client's leaving is no event, it is asked for
        await asyncio.sleep(ASK_SECONDS)
    patience.reschedule(asyncio.get_running_loop().time())
