"""A loop whose clock jumps to the next timer, and work for a queue: no test waits for a timer."""

import asyncio
import itertools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

Key = tuple[str, str]


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
        self.doubled: list[Key] = []  # keys that two workers had at the same time
        self._script = list(script)
        self._changed = asyncio.Condition()

    async def __call__(self, namespace: str, name: str) -> float | None:
        key = (namespace, name)
        if key in self.busy:
            self.doubled.append(key)
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
        return [after - before for before, after in itertools.pairwise(times)]


async def settle() -> None:
    """Let everything happen that is due now or ever: jump over all timers."""
    await asyncio.sleep(100_000)
