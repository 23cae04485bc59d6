"""The mock engine: no model, deterministic per question, and marked as mock in every answer.

It quotes the patient data it was given, so that a whole service can be tried without weights. Its
tokens are pieces of up to six bytes. For tests of what surrounds an engine it can be slow or fail.
"""

import asyncio
import dataclasses
import hashlib
import re
import struct
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Literal, cast, get_args

from chatmodel_runtime.engines import BadOutput, EngineDead, Message, Pulse, Request, Step
from chatmodel_runtime.errors import ConfigError

Fault = Literal["none", "dies", "hangs", "no number", "empty"]
_PIECES = re.compile(rb"[\x01-\x03]|[ \n]?[^ \n\x01-\x03]{1,5}|[ \n]")


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """Seconds a token takes, and what goes wrong after `after` requests."""

    step_seconds: float = 0.0
    fault: Fault = "none"
    after: int = 0


def read_behaviour(env: Mapping[str, str]) -> Behaviour:
    """Return what `MOCK_STEP_SECONDS`, `MOCK_FAULT` and `MOCK_FAULT_AFTER` say.

    For trying out what surrounds a model; pods of a ChatModel have none of them. Raises
    `ConfigError`.
    """
    fault = env.get("MOCK_FAULT") or "none"
    try:
        seconds = float(env.get("MOCK_STEP_SECONDS") or 0)
        after = int(env.get("MOCK_FAULT_AFTER") or 0)
    except ValueError:
        raise ConfigError("MOCK_STEP_SECONDS and MOCK_FAULT_AFTER are numbers") from None
    if fault not in get_args(Fault):
        raise ConfigError(f"MOCK_FAULT={fault} is unknown: use {', '.join(get_args(Fault))}")
    return Behaviour(seconds, cast(Fault, fault), after)


class MockTokenizer:
    """Pieces of a text's bytes, the bytes themselves being the token's number."""

    control_words: Sequence[str] = ("\x01", "\x02", "\x03")

    def render(self, messages: list[Message], *, ask: bool = True) -> str:
        """Return the messages between marks."""
        return "".join(f"\x01{m['role']}\x02{m['content']}\x03" for m in messages)

    def encode(self, text: str) -> list[int]:
        """Return the pieces as numbers; a zero byte of the text is 0xff."""
        data = text.encode(errors="replace").replace(b"\0", b"\xff")
        return list(map(int.from_bytes, _PIECES.findall(data)))

    def decode(self, tokens: list[int]) -> str:
        """Return the text of the pieces."""
        data = struct.pack(f">{len(tokens)}Q", *tokens)
        return data.translate(None, b"\0").replace(b"\xff", b"\0").decode(errors="replace")


class MockEngine:
    """Answers at once, or as slowly and badly as it is told to."""

    name = "Mock"
    context_tokens = 65_536
    max_active = 1024

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.pulse = Pulse()
        self.tokenizer = MockTokenizer()
        self._behaviour = behaviour or Behaviour()
        self._asked = 0
        self._alive = True

    def load(self) -> None:
        """Nothing to load."""

    async def submit(self, request: Request) -> AsyncGenerator[Step]:
        """Give the answer in one step, or a token a step when it takes time."""
        self._asked += 1
        fault = self._behaviour.fault if self._asked > self._behaviour.after else "none"
        await self._misbehave(fault)
        text = "" if fault == "empty" else _answer(self.tokenizer.decode(request.prompt))
        tokens = self.tokenizer.encode(text)
        kept = tokens[: request.max_tokens]
        seconds = self._behaviour.step_seconds
        if seconds:
            for token in kept:
                await asyncio.sleep(seconds)
                yield Step([token])
            kept = []
        yield Step(kept, "length" if len(tokens) > request.max_tokens else "stop")

    async def _misbehave(self, fault: Fault) -> None:
        if fault == "hangs":
            self.pulse.begin()
            await asyncio.get_running_loop().create_future()
        if fault == "dies":
            self._alive = False
            raise EngineDead("as told")
        if fault == "no number":
            raise BadOutput("as told")

    def is_alive(self) -> bool:
        """A mock lives until it is told to die."""
        return self._alive

    def close(self) -> None:
        """Nothing to let go of."""


def _answer(prompt: str) -> str:
    content = prompt.rpartition("\x02")[2].partition("\x03")[0]  # of the last message
    # A short mark of the question: other questions get other answers, and none is repeated.
    mark = hashlib.sha256(content.encode(errors="replace")).hexdigest()[:6]
    head = f"[mock] No language model has read question {mark}."
    facts = content.partition("\n\n")[0].removeprefix("Patient: ")
    return f"{head} On record: {facts}." if content.startswith("Patient: ") else head
