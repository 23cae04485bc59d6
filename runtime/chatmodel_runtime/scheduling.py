"""Between requests and the engine: a bounded queue, deadlines, cancellation, honest health.

One `Scheduler` a process. Nothing unbounded gets to the engine; overload is refused at once.
"""

import asyncio
import collections
import contextlib
import dataclasses
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Literal

from chatmodel_runtime import generating
from chatmodel_runtime.engines import Engine, Message
from chatmodel_runtime.generating import Answer, Budget
from chatmodel_runtime.splitting import Delta

State = Literal["starting", "ready", "failed"]
IsGone = Callable[[], Awaitable[bool]]
STUCK_SECONDS = 60.0
STUCK_STEPS = 20  # times the slowest step of the warm-up
MAX_FAILURES = 5
LONG_TEXT = 16_000  # letters; a longer one is made into tokens beside the event loop
ASK_SECONDS = 0.5  # between two looks at whether a client is still there


class Overloaded(Exception):
    """The queue is full; `retry_after` is when there should be room again, in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"queue full, try again in {retry_after} s")
        self.retry_after = retry_after


class NotReady(Exception):
    """The model is not loaded, or the engine is dead."""


class DeadlineExceeded(Exception):
    """The request took longer than it may."""


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


@dataclasses.dataclass(frozen=True)
class Deadlines:
    """Seconds from the request to its end and to its first piece, and between two pieces."""

    total: float
    first: float
    idle: float


AHEAD = Deadlines(total=120, first=120, idle=120)  # for verification, whatever clients may have


@dataclasses.dataclass(frozen=True)
class Room:
    """Requests at once and in the queue."""

    active: int
    queued: int


class Scheduler:
    """Lets so many generations run on the engine at once, and so many wait."""

    def __init__(self, engine: Engine, room: Room, deadlines: Deadlines) -> None:
        self.engine = engine
        self._state: State = "starting"
        self._room = room
        self._deadlines = deadlines
        self._slots = _Slots(0)
        self._active = room.active
        self._failures = 0
        self._waiting = 0
        self._slowest = 0.0
        self._seconds = 1.0

    async def start(self, warm_up: Callable[[], Awaitable[None]]) -> None:
        """Load the engine, then become ready once `warm_up` has generated for real.

        Raises `errors.Failure` of the engine; the state is `failed` then.
        """
        try:
            await asyncio.to_thread(self.engine.load)
            self._active = min(self._room.active, self.engine.max_active)
            self._slots = _Slots(self._active)
            await warm_up()
        except BaseException:
            self._state = "failed"
            raise
        self._slowest = self.engine.pulse.slowest
        self._state = "ready"

    @property
    def state(self) -> State:
        """Where the engine is; failed also when it is stuck or answers keep failing."""
        broken = self.is_broken() or self._failures >= MAX_FAILURES
        return "failed" if self._state == "ready" and broken else self._state

    def is_broken(self) -> bool:
        """Say whether the engine is dead, or one step takes so long that only a restart helps."""
        if self._state != "ready":
            return False
        limit = max(STUCK_SECONDS, STUCK_STEPS * self._slowest)
        return not self.engine.is_alive() or self.engine.pulse.seconds() > limit

    @property
    def active(self) -> int:
        """How many generations run."""
        return self._slots.taken

    @property
    def queued(self) -> int:
        """How many requests wait for their turn."""
        return self._waiting - self._slots.taken

    async def answer(
        self,
        messages: list[Message],
        budget: Budget,
        is_gone: IsGone | None = None,
        *,
        ahead: bool = False,
    ) -> Answer:
        """Return the answer to messages.

        `is_gone` tells whether the client has left, which cancels; `ahead` skips the queue's limit.
        Raises what `stream` raises, and `ClientGone`.
        """

        async def collect() -> Answer:
            async with contextlib.aclosing(self.stream(messages, budget, ahead=ahead)) as items:
                async for item in items:
                    if isinstance(item, Answer):
                        return item
            raise NotReady(self._state)

        if is_gone is None:
            return await collect()
        return await _unless_gone(collect(), is_gone)

    async def stream(
        self, messages: list[Message], budget: Budget, *, ahead: bool = False
    ) -> AsyncGenerator[Delta | Answer]:
        """Yield what becomes known of the answer, and at last the answer itself.

        Closing the generator cancels. Raises `NotReady`, `Overloaded`, `DeadlineExceeded`,
        `generating.PromptTooLong`, or what the engine raises.
        """
        if not ahead and self.state != "ready":
            raise NotReady(self._state)
        if not ahead and self._waiting >= self._room.queued + self._active:
            raise Overloaded(self._retry_after())
        started = time.monotonic()
        limits = AHEAD if ahead else self._deadlines
        self._waiting += 1
        try:
            generation = await self._prepare(messages, budget)
            async with self._turn(ahead=ahead, until=started + limits.first):
                deltas = self._timed(generation.run(), limits, started)
                async with contextlib.aclosing(deltas):
                    async for delta in deltas:
                        yield delta
            self._succeed(time.monotonic() - started)
            yield generation.answer
        finally:
            self._waiting -= 1

    async def _prepare(self, messages: list[Message], budget: Budget) -> generating.Generation:
        tokenizer = self.engine.tokenizer
        if sum(len(message["content"]) for message in messages) > LONG_TEXT:
            prompt = await asyncio.to_thread(generating.build_prompt, tokenizer, messages)
        else:
            prompt = generating.build_prompt(tokenizer, messages)
        return generating.Generation(self.engine, prompt, budget)

    @contextlib.asynccontextmanager
    async def _turn(self, *, ahead: bool, until: float) -> AsyncGenerator[None]:
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await self._slots.take(ahead=ahead)
        except TimeoutError:
            raise DeadlineExceeded from None
        try:
            yield
        finally:
            self._slots.give_back()

    async def _timed(
        self, deltas: AsyncGenerator[Delta], limits: Deadlines, started: float
    ) -> AsyncGenerator[Delta]:
        """Pass on what comes in time; count what fails."""
        until = started + limits.first
        try:
            async with contextlib.aclosing(deltas):
                while True:
                    async with asyncio.timeout(until - time.monotonic()):
                        delta = await anext(deltas, None)
                    if delta is None:
                        return
                    yield delta
                    until = min(started + limits.total, time.monotonic() + limits.idle)
        except TimeoutError:
            raise DeadlineExceeded from None
        except (GeneratorExit, asyncio.CancelledError):
            raise
        except Exception:
            self._failures += 1
            raise

    def _succeed(self, seconds: float) -> None:
        self._failures = 0
        self._seconds = 0.8 * self._seconds + 0.2 * seconds

    def _retry_after(self) -> int:
        return max(1, round(self._waiting * self._seconds / max(1, self._active)))

    def close(self) -> None:
        """Let go of the engine."""
        self.engine.close()


class _Slots:
    """So many at once; the rest wait in order, but for those that go ahead."""

    def __init__(self, free: int) -> None:
        self._free = free
        self.taken = 0
        self._queue: collections.deque[asyncio.Future[None]] = collections.deque()

    async def take(self, *, ahead: bool) -> None:
        """Wait for a slot."""
        if self._free <= 0:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            (self._queue.appendleft if ahead else self._queue.append)(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._hand_on()  # its turn had come in the same moment
                raise
        else:
            self._free -= 1
        self.taken += 1

    def give_back(self) -> None:
        """Hand the slot to who is next."""
        self.taken -= 1
        self._hand_on()

    def _hand_on(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():  # who has left is still in the queue
                turn.set_result(None)
                return
        self._free += 1


async def _unless_gone(work: Awaitable[Answer], is_gone: IsGone) -> Answer:
    """Return the work's result, or cancel it when the client has left."""
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_watch(is_gone))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        watch.cancel()
        task.cancel()
        await asyncio.wait({task, watch})


async def _watch(is_gone: IsGone) -> None:
    while not await is_gone():  # noqa: ASYNC110 - the client's leaving is no event, it is asked for
        await asyncio.sleep(ASK_SECONDS)
