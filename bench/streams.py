"""Chat completions asked for as streams, all of a wave at once: first tokens, tokens, seconds.

Called by `speed` and `prefixes`. Every server is asked with the same bytes; prompts never recur.
"""

import asyncio
import dataclasses
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import http_load

WORDS = (
    "river stone candle garden window silver morning letter winter harbour bridge music copper"
    " shadow orchard lantern meadow thunder ribbon anchor velvet marble sparrow compass willow"
    " ember canyon feather saddle cottage prairie beacon"
).split()
SECONDS = 300  # for one answer; a server that takes longer has failed
ASK = "Write a long story, at least a thousand words, in which all of these things come up: "


class Failed(Exception):
    """A server that did not answer as it should; the text says how."""


@dataclasses.dataclass(frozen=True)
class Answered:
    """One answer; seconds are from the request. `events` are those that carried text."""

    first: float
    seconds: float
    tokens: int
    prompt_tokens: int
    events: int


@dataclasses.dataclass(frozen=True)
class Wave:
    """Answers to requests that were sent at once; `seconds` to the end of the last one."""

    answers: list[Answered]
    seconds: float

    @property
    def rate(self) -> float:
        """Return tokens a second of all together."""
        return sum(answer.tokens for answer in self.answers) / self.seconds


def words(count: int, seed: str) -> str:
    """Return so many words that begin differently for every seed."""
    chance = random.Random(seed)
    return " ".join([str(chance.randrange(10**6)), *(chance.choice(WORDS) for _ in range(count))])


def build_body(model: str, question: str, most: int, system: str | None = None) -> bytes:
    """Return the body of a greedy chat completion that is streamed and counts its tokens."""
    given = [] if system is None else [{"role": "system", "content": system}]
    body = {
        "model": model,
        "messages": [*given, {"role": "user", "content": question}],
        "max_tokens": most,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(body).encode()


async def ask_all(port: int, bodies: list[bytes]) -> Wave:
    """Send all bodies at once over connections of their own. Raises `Failed`."""
    started = time.perf_counter()
    answers = await asyncio.gather(*(ask(port, body) for body in bodies))
    return Wave(answers, time.perf_counter() - started)


async def ask(port: int, body: bytes) -> Answered:
    """Ask once. Raises `Failed`."""
    try:
        async with asyncio.timeout(SECONDS):
            return await _ask(port, body)
    except TimeoutError:
        raise Failed(f"no whole answer within {SECONDS} s") from None
    except (OSError, asyncio.IncompleteReadError, ValueError) as error:
        raise Failed(f"{type(error).__name__}: {error}") from error


async def _ask(port: int, body: bytes) -> Answered:
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        request = http_load.build_request("/v1/chat/completions", body, method="POST")
        writer.write(request)
        head = await reader.readuntil(http_load.END_OF_HEAD)
        if int(head[9:12]) != 200:
            rest = await reader.read(300)
            raise Failed(f"status {int(head[9:12])}: {rest.decode(errors='replace')}")
        reading = Reading(time.perf_counter)
        async for line in _lines(reader):
            if reading.take(line):
                break
        return reading.build(started)
    finally:
        writer.close()


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of a body that comes in chunks, wherever these are cut."""
    rest = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        rest += (await reader.readexactly(size + 2))[:-2]
        *lines, rest = rest.split(b"\n")
        for line in lines:
            yield line.rstrip()


class Reading:
    """What the events of one stream tell; `clock` is asked when text comes."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._first: float | None = None
        self._events = 0
        self._usage: dict[str, int] = {}

    def take(self, line: bytes) -> bool:
        """Read one line; say whether the stream is over. Raises `Failed`."""
        if not line.startswith(b"data:"):
            return False
        text = line[5:].strip()
        if text == b"[DONE]":
            return True
        event = json.loads(text)
        if "error" in event:
            raise Failed(str(event["error"])[:300])
        self._usage = event.get("usage") or self._usage
        delta = (event.get("choices") or [{}])[0].get("delta") or {}
        if delta.get("content") or delta.get("reasoning_content"):
            self._events += 1
            if self._first is None:
                self._first = self._clock()
        return False

    def build(self, started: float) -> Answered:
        """Return the whole. Raises `Failed` when it had no text, or nobody counted its tokens."""
        if self._first is None or not self._usage.get("completion_tokens"):
            raise Failed(f"a stream of {self._events} pieces of text, usage {self._usage}")
        return Answered(
            first=self._first - started,
            seconds=self._clock() - started,
            tokens=self._usage["completion_tokens"],
            prompt_tokens=self._usage.get("prompt_tokens", 0),
            events=self._events,
        )
