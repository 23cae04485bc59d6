"""Between requests and the engine: a bounded queue, deadlines, cancellation, honest health.

One `Scheduler` a process. Nothing unbounded gets to the engine; overload is refused at once.
"""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

from chatmodel_runtime import generating, waiting
from chatmodel_runtime.engines import Engine, Message
from chatmodel_runtime.families import State
from chatmodel_runtime.generating import Answer, Budget
from chatmodel_runtime.metrics import Metrics, Sources, Watch
from chatmodel_runtime.splitting import Delta
from chatmodel_runtime.turns import Slots

logger = logging.getLogger(__name__)
STUCK_SECONDS = 60.0
STUCK_STEPS = 20  # times the slowest step of the warm-up
MAX_FAILURES = 5
RETRY_SECONDS = 5.0
# Letters; a longer text is made into tokens beside the event loop. Its best of 25 times, with the
# tokenizers of the stand-in and SmolLM2 on a busy machine: at most 1.8 ms for 1,000 letters of six
# kinds of text, 8 to 74 ms for 16,000 (OpenVINO: 1.6 and 1.2 to 6).
LONG_TEXT = 1000


class Overloaded(Exception):
    """The queue is full; `retry_after` is when there should be room again, in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"queue full, try again in {retry_after} s")
        self.retry_after = retry_after


class NotReady(Exception):
    """The model is not loaded, or the engine is dead."""


@dataclasses.dataclass(frozen=True)
class Deadlines:
    """Seconds from the request to its end and to its first piece, and between two pieces.

    A step of the engine that takes longer than `step` is taken for stuck. While answers keep
    failing, one is tried every `retry`.
    """

    total: float
    first: float
    idle: float
    step: float = STUCK_SECONDS
    retry: float = RETRY_SECONDS


AHEAD = Deadlines(total=120, first=120, idle=120)  # for verification, whatever clients may have


@dataclasses.dataclass(frozen=True)
class Room:
    """Requests at once and in the queue."""

    active: int
    queued: int


class Scheduler:
    """Lets so many generations run on the engine at once, and so many wait."""

    def __init__(
        self, engine: Engine, room: Room, deadlines: Deadlines, metrics: Metrics | None = None
    ) -> None:
        self.engine = engine
        self.metrics = metrics or Metrics()
        self._state: State = "starting"
        # For threads that wait for it; never done when the start fails.
        self.started: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._room = room
        self._deadlines = deadlines
        self._slots = Slots(0)
        self._active = room.active
        self._failures = 0
        self._recovery: asyncio.Task[None] | None = None
        # A tokenizer can hold Python's lock: several at once would keep the event loop out for
        # seconds, of one it gets its turn in between.
        self._tokenising = concurrent.futures.ThreadPoolExecutor(1, "tokenising")
        self._waiting = 0
        self._slowest = 0.0
        self._seconds = 1.0
        self.metrics.watch(
            Sources(lambda: self.state, lambda: self.active, lambda: self.queued, engine.pulse)
        )

    async def start(self, warm_up: Callable[[], Awaitable[None]]) -> None:
        """Load the engine, then become ready once `warm_up` has generated for real.

        `warm_up` is called again while answers keep failing. Raises `errors.Failure` of the engine;
        the state is `failed` then.
        """
        self._warm_up = warm_up
        started = time.monotonic()
        try:
            await asyncio.to_thread(self.engine.load)
            self._active = min(self._room.active, self.engine.max_active)
            self._slots = Slots(self._active)
            await warm_up()
        except BaseException:
            self._state = "failed"
            raise
        self._slowest = self.engine.pulse.slowest
        self._state = "ready"
        self.started.set_result(None)
        self.metrics.set_load_seconds(time.monotonic() - started)

    @property
    def state(self) -> State:
        """Where the engine is; failed also when it is stuck or answers keep failing."""
        broken = self.is_broken() or self._failures >= MAX_FAILURES
        return "failed" if self._state == "ready" and broken else self._state

    def is_broken(self) -> bool:
        """Say whether the engine is dead, or one step takes so long that only a restart helps."""
        if self._state != "ready":
            return False
        limit = max(self._deadlines.step, STUCK_STEPS * self._slowest)
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
        is_gone: waiting.IsGone | None = None,
        *,
        ahead: bool = False,
    ) -> Answer:
        """Return the answer to messages.

        `is_gone` tells whether the client has left, which cancels; `ahead` skips the queue's limit.
        Raises what `stream` raises, and `waiting.ClientGone`.
        """
        made = _last(self.stream(messages, budget, ahead=ahead))
        return await (made if is_gone is None else waiting.unless_gone(made, is_gone))

    async def stream(
        self, messages: list[Message], budget: Budget, *, ahead: bool = False
    ) -> AsyncGenerator[Delta | Answer]:
        """Yield what becomes known of the answer, and at last the answer itself.

        Closing the generator cancels. Raises `NotReady`, `Overloaded`, `waiting.DeadlineExceeded`,
        `generating.PromptTooLong`, or what the engine raises.
        """
        if not ahead:
            self._let_in()
        started = time.monotonic()
        limits = AHEAD if ahead else self._deadlines
        self._waiting += 1
        try:
            generation = await self._prepare(messages, budget)
            watch = self.metrics.begin()
            with self._judged(watch):
                await self._take_turn(ahead=ahead, until=started + limits.first)
                watch.start()
                try:
                    async with contextlib.aclosing(generation.run()) as deltas:
                        until = started + limits.first
                        while (delta := await waiting.in_time(deltas, until)) is not None:
                            watch.note(generation.prompt_tokens, generation.tokens)
                            yield delta
                            until = min(started + limits.total, time.monotonic() + limits.idle)
                finally:
                    self._slots.give_back()
                self._succeed(time.monotonic() - started)
                answer = generation.answer
                watch.end(answer.finish_reason)
                yield answer
        finally:
            self._waiting -= 1

    def _let_in(self) -> None:
        if self.state != "ready":
            self.metrics.count_refusal("not_ready")
            raise NotReady(self._state)
        if self.is_full():
            raise self.refuse()

    def is_full(self) -> bool:
        """Say whether there is no room for one more request, not even in the queue."""
        return self._state == "ready" and self._waiting >= self._room.queued + self._active

    def refuse(self) -> Overloaded:
        """Count a request for which there is no room, and return what says so."""
        self.metrics.count_refusal("queue_full")
        return Overloaded(self._retry_after())

    async def _prepare(self, messages: list[Message], budget: Budget) -> generating.Generation:
        tokenizer = self.engine.tokenizer
        if sum(len(message["content"]) for message in messages) > LONG_TEXT:
            prompt = await asyncio.get_running_loop().run_in_executor(
                self._tokenising, generating.build_prompt, tokenizer, messages
            )
        else:
            prompt = generating.build_prompt(tokenizer, messages)
        try:
            return generating.Generation(self.engine, prompt, budget)
        except generating.PromptTooLong:
            self.metrics.count_refusal("prompt_too_long")
            raise

    async def _take_turn(self, *, ahead: bool, until: float) -> None:
        if self._slots.take_free():
            return
        try:
            async with asyncio.timeout(until - time.monotonic()):
                await self._slots.take(ahead=ahead)
        except TimeoutError:
            raise waiting.DeadlineExceeded from None

    @contextlib.contextmanager
    def _judged(self, watch: Watch) -> Iterator[None]:
        """Count how a generation ended that did not come to its own end, and what failed."""
        try:
            yield
        except (GeneratorExit, asyncio.CancelledError):
            watch.end("cancelled")
            raise
        except waiting.DeadlineExceeded:
            watch.end("deadline")
            raise
        except Exception:
            self._fail()
            watch.end("failed")
            raise

    def _fail(self) -> None:
        """Count a failure; nobody is let in after too many, so that we ask the engine ourselves."""
        self._failures += 1
        if self._failures >= MAX_FAILURES and self._recovery is None and self._state == "ready":
            logger.error("answers keep failing: not ready")
            self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        while self._failures >= MAX_FAILURES:
            await asyncio.sleep(self._deadlines.retry)
            with contextlib.suppress(Exception):  # counted and told as any failure
                await self._warm_up()
        self._recovery = None
        logger.info("answers come again: ready")

    def _succeed(self, seconds: float) -> None:
        self._failures = 0
        self._seconds = 0.8 * self._seconds + 0.2 * seconds

    def _retry_after(self) -> int:
        return max(1, round(self._waiting * self._seconds / max(1, self._active)))

    def close(self) -> None:
        """Let go of the engine."""
        if self._recovery is not None:
            self._recovery.cancel()
        self._tokenising.shutdown(wait=False, cancel_futures=True)
        self.engine.close()


async def _last(items: AsyncGenerator[Delta | Answer]) -> Answer:
    """Return the answer at the end of a stream, which is read to its end: it closes itself."""
    async for item in items:
        made = item
    assert isinstance(made, Answer)
    return made
