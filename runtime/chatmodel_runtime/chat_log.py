"""The chat log: what was asked and answered, posted to the patient API beside the answers.

`triage` offers an entry for each answer; a bounded queue and a few workers of this module send them
as the origin did, `POST {url}/chat-logs`. An answer never waits for it: when the queue is full or
the API fails, the entry is dropped and counted. Never logs an entry, nor where it was sent.
"""

import asyncio
import dataclasses
import datetime
import logging
import time
import uuid
from typing import Any, Literal

import httpx2

logger = logging.getLogger(__name__)
TIMEOUT_SECONDS = 10.0
MAX_QUEUED = 256
WORKERS = 4
# After the drain window; within the 5 s that a pod's grace period has beyond window and deadline.
FLUSH_SECONDS = 4.0
QUIET_SECONDS = 10.0

Reason = Literal["full", "failed", "shutdown"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One question and its answer."""

    trace_id: str
    conversation_id: str
    patient_mrn: str
    query: str
    response: str
    llm_mode: str
    inference_time_ms: float
    asked: float  # seconds since the epoch
    answered: float

    def body(self) -> dict[str, Any]:
        """Return what the origin's API takes."""
        question = {"role": "user", "content": self.query, "timestamp": _stamp(self.asked)}
        answer = {
            "role": "assistant",
            "content": self.response,
            "timestamp": _stamp(self.answered),
            "model_name": self.llm_mode,
            "latency_ms": self.inference_time_ms,
        }
        return {
            "trace_id": self.trace_id,
            "conversation_id": self.conversation_id,
            "patient_mrn": self.patient_mrn,
            "channel": "api",
            "messages": [question, answer],
        }


class ChatLog:
    """A queue of entries and the workers that send them. Made inside the running event loop."""

    def __init__(self, url: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self.dropped: dict[Reason, int] = {"full": 0, "failed": 0, "shutdown": 0}
        self.stored = 0
        self._taken = 0
        self._timeout = timeout_seconds
        self._client = httpx2.AsyncClient(base_url=url, timeout=timeout_seconds, trust_env=False)
        self._queue: asyncio.Queue[Entry] = asyncio.Queue(MAX_QUEUED)
        self._workers = [asyncio.create_task(self._work()) for _ in range(WORKERS)]
        self._said = -QUIET_SECONDS

    def offer(self, entry: Entry) -> None:
        """Take an entry to be sent; never waits."""
        try:
            self._queue.put_nowait(entry)
            self._taken += 1
        except asyncio.QueueFull:
            self._drop("full")

    async def close(self, seconds: float = FLUSH_SECONDS) -> None:
        """Send what is left, for at most so many seconds; drop the rest."""
        try:
            async with asyncio.timeout(seconds):
                await self._queue.join()
        except TimeoutError:
            self._drop("shutdown", self._taken - self.stored - self.dropped["failed"])
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._client.aclose()

    async def _work(self) -> None:
        while True:
            entry = await self._queue.get()
            try:
                if await self._is_stored(entry):
                    self.stored += 1
                else:
                    self._drop("failed")
            finally:
                self._queue.task_done()

    async def _is_stored(self, entry: Entry) -> bool:
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream("POST", "/chat-logs", json=entry.body()) as response,
            ):
                return response.is_success  # the answer's body repeats the entry: not read
        except (httpx2.HTTPError, TimeoutError):
            return False

    def _drop(self, reason: Reason, count: int = 1) -> None:
        """Count, and say so; while it goes on, only now and then."""
        self.dropped[reason] += count
        now = time.monotonic()
        if now - self._said >= QUIET_SECONDS or reason == "shutdown":
            self._said = now
            extra = {"reason": reason, "dropped": sum(self.dropped.values())}
            logger.warning("chat log entry dropped", extra=extra)


def new_conversation_id() -> str:
    """Return a random id, by which the patient API finds the entry."""
    return str(uuid.uuid4())


def _stamp(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)
    return moment.isoformat().replace("+00:00", "Z")
