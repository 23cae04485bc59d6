"""The CPU time of a coroutine's own steps; what it waits for is not its own.

Used by `running` for passes and by `api_client` for requests. Knows nothing of either.
"""

import functools
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

Value = TypeVar("Value")
OnCpu = Callable[[float], None]


class Counted(Generic[Value]):
    """Awaits a coroutine in its place, and tells the seconds of CPU once it is over."""

    def __init__(self, story: Coroutine[Any, Any, Value], on_cpu: OnCpu) -> None:
        self._story = story
        self._on_cpu = on_cpu

    def __await__(self) -> Generator[Any, Any, Value]:
        seconds = 0.0
        step: Callable[[], Any] = functools.partial(self._story.send, None)
        try:
            while True:
                began = time.thread_time()
                try:
                    waits_for = step()
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                finally:
                    seconds += time.thread_time() - began
                try:
                    step = functools.partial(self._story.send, (yield waits_for))
                except BaseException as error:  # a cancellation above all: the coroutine's to take
                    step = functools.partial(self._story.throw, error)
        finally:
            self._on_cpu(seconds)
