"""Ending tasks for sure. Used by whoever starts some; knows nothing else."""

import asyncio
from collections.abc import Iterable
from typing import Any

REPEAT_SECONDS = 1.0


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until all have ended, whatever they end with.

    Once is not enough: a cancellation that meets a time-out in the same moment, as when a process
    wakes up that was stopped for long, can be taken for the time-out by the library that waits.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=REPEAT_SECONDS)
