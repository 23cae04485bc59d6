"""An engine that says what it is told to say, in as many steps as it is told; for unit tests."""

import asyncio
from collections.abc import AsyncGenerator

from chatmodel_runtime.engines import Pulse, Request, Step
from chatmodel_runtime.engines.mock import MockTokenizer


class ThinkingTokenizer(MockTokenizer):
    """Its chat format ends inside the thinking part."""

    def render(self, messages: list[dict[str, str]], *, ask: bool = True) -> str:
        return super().render(messages) + ("<think>\n" if ask else "")


class ScriptedEngine:
    """Says its texts, the last one again and again; while the gate is shut it works on."""

    name = "Scripted"

    def __init__(
        self, *texts: str, thinks: bool = False, max_active: int = 1, a_step: int = 1
    ) -> None:
        self.pulse = Pulse()
        self.tokenizer = ThinkingTokenizer() if thinks else MockTokenizer()
        self.context_tokens = 1000
        self.max_active = max_active
        self.gate = asyncio.Event()
        self.gate.set()
        self.running = asyncio.Semaphore(0)
        self.asked: list[Request] = []
        self.cancelled = 0
        self.alive = True
        self.silent = False
        self.fails_with: BaseException | None = None
        self._texts = list(texts) or ["Rest."]
        self._a_step = a_step

    def load(self) -> None:
        if self.fails_with is not None:
            raise self.fails_with

    async def submit(self, request: Request) -> AsyncGenerator[Step]:
        self.asked.append(request)
        self.pulse.begin()
        self.running.release()
        finished = False
        try:
            await self.gate.wait()
            if self.fails_with is not None:
                raise self.fails_with
            tokens = self.tokenizer.encode(self._next())
            for at in range(0, min(len(tokens), request.max_tokens), self._a_step):
                if self.silent:
                    await asyncio.Event().wait()
                yield Step(tokens[at : min(at + self._a_step, request.max_tokens)])
            finished = True
            yield Step([], "length" if len(tokens) > request.max_tokens else "stop")
        finally:
            self.pulse.end()
            self.cancelled += not finished

    def _next(self) -> str:
        return self._texts.pop(0) if len(self._texts) > 1 else self._texts[0]

    def said_to(self, number: int) -> str:
        """Return the prompt of a submission as text."""
        return self.tokenizer.decode(self.asked[number].prompt)

    def is_alive(self) -> bool:
        return self.alive

    def close(self) -> None:
        self.alive = False
