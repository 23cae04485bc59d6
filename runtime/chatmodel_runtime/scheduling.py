"""Between requests and the engine: a bounded queue, deadlines, cancellation, honest health.

One `Scheduler` a process. Nothing unbounded gets to the engine; overload is refused at once.
"""

import asyncio
import collections
import dataclasses
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from chatmodel_runtime import answers
from chatmodel_runtime.engines import Cancelled, Completion, Engine, FinishReason, Message, Sampling

State = Literal["starting", "ready", "failed"]
STUCK_SECONDS = 60.0
MAX_FAILURES = 5


class Overloaded(Exception):
    """The queue is full; `retry_after` is when there should be room again, in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"queue full, try again in {retry_after} s")
        self.retry_after = retry_after


class NotReady(Exception):
    """The model is not loaded, or the engine is dead."""


class DeadlineExceeded(Exception):
    """The request took longer than it may."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer with its thinking apart."""

    thinking: str
    text: str
    prompt_tokens: int
    tokens: int
    finish_reason: FinishReason
    thinking_truncated: bool


@dataclasses.dataclass(frozen=True)
class Budget:
    """Most tokens of thinking and of the answer, and how tokens are chosen."""

    thinking: int
    answer: int
    sampling: Sampling


class Scheduler:
    """Runs generations on an engine's worker threads, at most so many at once and in the queue."""

    def __init__(
        self, engine: Engine, *, max_active: int, max_queued: int, deadline_seconds: float
    ) -> None:
        self.engine = engine
        self._state: State = "starting"
        self._workers = min(max_active, engine.workers)
        self._max_queued = max_queued
        self._deadline = deadline_seconds
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="engine")
        self._slots = _Slots(self._workers)
        self._failures = 0
        self._waiting = 0
        self._active: dict[int, float] = {}
        self._seconds = 1.0

    async def start(self, warm_up: Callable[[], Awaitable[None]]) -> None:
        """Load the engine, then become ready once `warm_up` has generated for real.

        Raises `errors.Failure` of the engine; the state is `failed` then.
        """
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._pool, self.engine.load)
            await warm_up()
        except BaseException:
            self._state = "failed"
            raise
        self._state = "ready"

    @property
    def state(self) -> State:
        """Where the engine is; failed also when it is stuck or answers keep failing."""
        broken = self.is_stuck() or self._failures >= MAX_FAILURES
        return "failed" if self._state == "ready" and broken else self._state

    def is_stuck(self) -> bool:
        """Say whether a generation has made no step for a minute: then only a restart helps."""
        oldest = min(self._active.values(), default=None)
        return oldest is not None and time.monotonic() - oldest > STUCK_SECONDS

    async def answer(
        self,
        messages: list[Message],
        budget: Budget,
        is_gone: Callable[[], Awaitable[bool]] | None = None,
        *,
        ahead: bool = False,
    ) -> Answer:
        """Return the answer to messages.

        `is_gone` tells whether the client has left, which cancels; `ahead` skips the queue's limit.
        Raises `NotReady`, `Overloaded`, `DeadlineExceeded`, or what the engine raises.
        """
        if self._state != "ready" and not ahead:
            raise NotReady(self._state)
        if self._waiting >= self._max_queued + self._workers and not ahead:
            raise Overloaded(self._retry_after())
        cancelled = threading.Event()
        watch = asyncio.create_task(_watch(is_gone, cancelled)) if is_gone else None
        self._waiting += 1
        try:
            async with asyncio.timeout(self._deadline):
                await self._slots.take(ahead=ahead, unless=watch)
                try:
                    return await self._run(messages, budget, cancelled)
                finally:
                    self._slots.give_back()
        except TimeoutError:
            raise DeadlineExceeded from None
        finally:
            self._waiting -= 1
            cancelled.set()
            if watch is not None:
                watch.cancel()

    def _retry_after(self) -> int:
        return max(1, round(self._waiting * self._seconds / self._workers))

    async def _run(
        self, messages: list[Message], budget: Budget, cancelled: threading.Event
    ) -> Answer:
        key, started = id(cancelled), time.monotonic()
        loop = asyncio.get_running_loop()

        def beat() -> None:
            self._active[key] = time.monotonic()

        def work() -> Answer:
            beat()
            try:
                return _think_and_answer(self.engine, messages, budget, cancelled.is_set, beat)
            finally:
                self._active.pop(key, None)

        try:
            result = await loop.run_in_executor(self._pool, work)
        except Cancelled:
            raise
        except Exception:
            self._failures += 1
            raise
        self._failures = 0
        self._seconds = 0.8 * self._seconds + 0.2 * (time.monotonic() - started)
        return result

    def close(self) -> None:
        """Let go of the worker threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class _Slots:
    """So many at once; the rest wait in order, but for those that go ahead."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._queue: collections.deque[asyncio.Future[None]] = collections.deque()

    async def take(self, *, ahead: bool, unless: "asyncio.Task[None] | None") -> None:
        """Wait for a slot. Raises `Cancelled` when the task `unless` ends first."""
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._queue.appendleft if ahead else self._queue.append)(turn)
        waited = {turn} if unless is None else {turn, unless}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not turn.done():
                self._queue.remove(turn)
                turn.cancel()
        if turn.cancelled():
            raise Cancelled

    def give_back(self) -> None:
        """Hand the slot to who is next."""
        if self._queue:
            self._queue.popleft().set_result(None)
        else:
            self._free += 1


async def _watch(is_gone: Callable[[], Awaitable[bool]], cancelled: threading.Event) -> None:
    while not await is_gone():  # noqa: ASYNC110 - the client's leaving is no event, it is asked for
        await asyncio.sleep(0.5)
    cancelled.set()


def _think_and_answer(
    engine: Engine,
    messages: list[Message],
    budget: Budget,
    is_cancelled: Callable[[], bool],
    beat: Callable[[], None],
) -> Answer:
    """Let a thinking model think up to its budget, close the thinking if need be, then answer."""

    def complete(prefix: str, stop: str | None, most: int) -> Completion:
        return engine.complete(
            messages,
            prefix=prefix,
            stop=stop,
            max_tokens=most,
            sampling=budget.sampling,
            is_cancelled=is_cancelled,
            beat=beat,
        )

    thinking, spent, truncated, prefix, prompt_tokens = "", 0, False, "", 0
    if engine.opens_thinking():
        if budget.thinking > 0:
            thought = complete("", "</think>", budget.thinking)
            thinking, closed, _ = thought.text.partition("</think>")
            spent, truncated, prompt_tokens = thought.tokens, not closed, thought.prompt_tokens
        prefix = f"{thinking.rstrip()}\n</think>\n\n"
    final = complete(prefix, None, budget.answer)
    # A model may open its thinking by itself.
    own, text = answers.split_thinking(final.text, opened=False)
    return Answer(
        thinking=thinking.strip() or own,
        text=text,
        prompt_tokens=prompt_tokens or final.prompt_tokens,
        tokens=spent + final.tokens,
        finish_reason=final.finish_reason,
        thinking_truncated=truncated,
    )
