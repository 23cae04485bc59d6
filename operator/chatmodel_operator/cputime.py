"""The CPU time of a pass's own steps: a stopwatch that stands while the pass waits.

Used by `running`, which counts passes, and by `api_client` and `reads`, at whatever makes a pass
wait. Reading the clock is a system call, so that it is read at waits only: counting every step of
every coroutine took a sixth of the operator's CPU.
"""

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeVar

Value = TypeVar("Value")
OnCpu = Callable[[float], None]


class _Stopwatch:
    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._began = time.thread_time()
        self.seconds = 0.0

    def is_ours(self) -> bool:
        """Say whether it runs for this task; those that were begun within have its context too."""
        return asyncio.current_task() is self._task

    def stop(self) -> None:
        self.seconds += time.thread_time() - self._began

    def go_on(self) -> None:
        self._began = time.thread_time()


_current: contextvars.ContextVar[_Stopwatch | None] = contextvars.ContextVar("cpu", default=None)


async def counted(story: Awaitable[Value], on_cpu: OnCpu) -> Value:
    """Await a pass, and tell the CPU seconds of its own steps, however it ends."""
    watch = _Stopwatch()
    token = _current.set(watch)
    try:
        return await story
    finally:
        _current.reset(token)
        watch.stop()
        on_cpu(watch.seconds)


class Waiting:
    """A context in which a pass waits: what others do meanwhile is not counted as its own."""

    __slots__ = ("_watch",)

    def __enter__(self) -> None:
        watch = _current.get()
        self._watch = watch if watch is not None and watch.is_ours() else None
        if self._watch is not None:
            _current.set(None)  # a wait within a wait
            self._watch.stop()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._watch is not None:
            self._watch.go_on()
            _current.set(self._watch)
