"""A de-duplicating work queue: a key waits at most once, and has one worker at a time.

Fed by `handlers`, drained by its workers. Knows nothing of Kubernetes. A key that is added while it
is being worked on is given out once more afterwards; failures back off per key.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Literal

from chatmodel_operator import errors, logs, pacing, tasks

Key = tuple[str, str]
Work = Callable[[str, str], Awaitable[float | None]]
Result = Literal["success", "conflict", "rejected", "unavailable", "error"]
OnPass = Callable[[Result, float], None]

logger = logging.getLogger(__name__)
# Events come in swarms: a Deployment's status alone moves four times while one pod starts.
SWARM_SECONDS = 0.02
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 60.0
# An API server that is back has to be noticed without an event.
LONGEST_PAUSE_WITHOUT_SERVER = 15.0
# Enough for a thousand new ChatModels, of nine passes each; a bound for what goes round in circles.
PASSES_A_SECOND, PASSES_AT_ONCE = 300.0, 300.0
# A pass that has written is followed by the next at once, not behind all keys that wait: what it
# recorded is to be acted on while it is fresh. A rollout writes about ten times, not all in a row.
PASSES_IN_A_ROW = 20
# Longer than any pass: about twenty requests, each of which is given up after 15 s.
STUCK_SECONDS = 300.0


class WorkQueue:
    """Keys to look at; `work` returns the seconds until it wants to look again, or None.

    It can be stopped and started again; keys that are added meanwhile wait.
    """

    def __init__(self, work: Work, workers: int = 16, on_pass: OnPass = lambda *_: None) -> None:
        self._work = work
        self._on_pass = on_pass
        self._count = workers
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._waiting: dict[Key, float] = {}  # since when
        self._busy: dict[Key, float] = {}  # since when
        self._finished_at: float | None = None
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._not_before: dict[Key, float] = {}  # the API server asked us to wait
        self._bucket = pacing.Bucket(PASSES_A_SECOND, PASSES_AT_ONCE)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the workers."""
        # A standby has collected keys for hours: their waiting begins now.
        now = asyncio.get_running_loop().time()
        self._waiting = dict.fromkeys(self._waiting, now)
        self._tasks = [asyncio.create_task(self._run()) for _ in range(self._count)]

    async def stop(self) -> None:
        """Cancel the workers at once; whoever starts the queue again adds all keys anew."""
        for timer in self._timers.values():
            timer.cancel()
        await tasks.end(self._tasks)
        self._tasks = []
        for memory in (self._timers, self._busy, self._again, self._failures, self._not_before):
            memory.clear()
        self._ready, self._waiting = asyncio.Queue(), {}

    @property
    def is_running(self) -> bool:
        """Whether keys are being looked at."""
        return bool(self._tasks)

    @property
    def depth(self) -> int:
        """How many keys wait for a worker."""
        return len(self._waiting)

    def age(self) -> float | None:
        """Return the seconds since the last pass was over; None before the first."""
        now = asyncio.get_running_loop().time()
        return now - self._finished_at if self._finished_at is not None else None

    def find_fault(self) -> str | None:
        """Return what is wrong as a sentence; having nothing to do is no fault."""
        now = asyncio.get_running_loop().time()
        if any(task.done() for task in self._tasks):
            return "a worker has ended"
        longest = max((now - since for since in self._busy.values()), default=0.0)
        if longest > STUCK_SECONDS:
            return f"a pass has been running for {longest:.0f} s"
        waited = now - next(iter(self._waiting.values()), now)
        age = self.age()
        is_silent = age is None or age > STUCK_SECONDS
        if self._tasks and waited > STUCK_SECONDS and is_silent:
            return f"a key has been waiting for {waited:.0f} s, and no pass was over meanwhile"
        return None

    def add(self, key: Key) -> None:
        """Have a key looked at soon; not before the time that the API server asked us to wait."""
        if (wait := self._not_before.get(key, 0.0) - asyncio.get_running_loop().time()) > 0:
            self.add_after(key, wait)
            return
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        if key in self._busy:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting[key] = asyncio.get_running_loop().time()
            self._ready.put_nowait(key)

    def nudge(self, key: Key) -> None:
        """Have a key looked at once the events that come with this one are there as well."""
        soon = asyncio.get_running_loop().time() + SWARM_SECONDS
        timer = self._timers.get(key)
        if key in self._busy:
            self._again.add(key)
        elif key not in self._waiting and self._not_before.get(key, 0.0) <= soon:
            if timer is None or timer.when() > soon:
                self.add_after(key, SWARM_SECONDS)

    def add_after(self, key: Key, seconds: float) -> None:
        """Have a key looked at after a while, unless it is looked at earlier."""
        if seconds <= 0:
            self.add(key)
            return
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._ring, key)

    def _ring(self, key: Key) -> None:
        # The clocks of timers are coarse: a timer that is a trifle early is on time.
        self._not_before.pop(key, None)
        self.add(key)

    async def _run(self) -> None:
        while True:
            key = await self._ready.get()
            for _ in range(PASSES_IN_A_ROW):
                if (wait := self._bucket.take(asyncio.get_running_loop().time())) > 0:
                    await asyncio.sleep(wait)
                self._waiting.pop(key, None)
                self._busy[key] = asyncio.get_running_loop().time()
                self._again.discard(key)
                if (pause := await self._look(key)) != 0.0:
                    break
            del self._busy[key]
            if key in self._again:
                self._again.discard(key)
                # A failed key keeps its pause: events must not turn it into a busy loop.
                is_soon = pause is None or (pause > SWARM_SECONDS and key not in self._failures)
                self.add_after(key, SWARM_SECONDS if is_soon else pause or 0.0)
            elif pause is not None:
                self.add_after(key, pause)

    async def _look(self, key: Key) -> float | None:
        """Do the work once, and tell how it went; return the seconds until the next time."""
        with logs.about(*key):
            result, pause = await self._try(key)
        now = asyncio.get_running_loop().time()
        self._on_pass(result, now - self._busy[key])
        self._finished_at = now
        return pause

    async def _try(self, key: Key) -> tuple[Result, float | None]:
        """Do the work once; the pause grows after each failure."""
        try:
            pause = await self._work(*key)
        except errors.Conflict as error:
            logger.info("look again at %s/%s: %s", *key, error)
            return "conflict", self._back_off(key, 0.0)
        except errors.Unavailable as error:
            logger.warning("pass over %s/%s failed: %s", *key, error)
            return "unavailable", self._wait_for_server(key, error.retry_after)
        except errors.ClusterError as error:
            logger.warning("pass over %s/%s failed: %s", *key, error)
            return "rejected", self._back_off(key, 0.0)
        except Exception:
            logger.exception("pass over %s/%s failed", *key)
            return "error", self._back_off(key, 1.0)
        self._failures.pop(key, None)
        return "success", pause

    def _wait_for_server(self, key: Key, wish: float) -> float:
        if wish > 0:
            wish *= random.uniform(1.0, 1.2)
            self._not_before[key] = asyncio.get_running_loop().time() + wish
        return max(wish, self._back_off(key, 0.0, LONGEST_PAUSE_WITHOUT_SERVER))

    def _back_off(self, key: Key, at_least: float, at_most: float = LONGEST_PAUSE) -> float:
        count = self._failures[key] = self._failures.get(key, 0) + 1
        pause = min(FIRST_PAUSE * float(2 ** min(count - 1, 16)), at_most)
        return max(at_least, pause * random.uniform(0.8, 1.2))
