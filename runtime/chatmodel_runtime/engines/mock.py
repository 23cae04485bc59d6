"""The mock engine: no model, deterministic per question, and marked as mock in every answer.

It quotes the patient data it was given, so that a whole service can be tried without weights.
"""

import hashlib
from collections.abc import Callable

from chatmodel_runtime.engines import Cancelled, Completion, FinishReason, Message, Sampling


class MockEngine:
    """Answers at once."""

    name = "Mock"
    workers = 8

    def load(self) -> None:
        """Nothing to load."""

    def opens_thinking(self) -> bool:
        """A mock does not think."""
        return False

    def complete(
        self,
        messages: list[Message],
        *,
        prefix: str = "",
        stop: str | None = None,
        max_tokens: int,
        sampling: Sampling,
        is_cancelled: Callable[[], bool],
        beat: Callable[[], None],
    ) -> Completion:
        """Return a fixed sentence around what the last message says of the patient."""
        beat()
        if is_cancelled():
            raise Cancelled
        words = _answer(messages[-1]["content"]).split(" ")
        prompt_tokens = sum(len(m["content"].split()) for m in messages)
        cut = len(words) > max_tokens
        text = " ".join(words[:max_tokens])
        finish: FinishReason = "length" if cut else "stop"
        return Completion(text, prompt_tokens, min(len(words), max_tokens), finish)


def _answer(content: str) -> str:
    # A short mark of the question: other questions get other answers, and none is repeated.
    mark = hashlib.sha256(content.encode()).hexdigest()[:6]
    head = f"[mock] No language model has read question {mark}."
    facts = content.partition("\n\n")[0].removeprefix("Patient: ")
    return f"{head} On record: {facts}." if content.startswith("Patient: ") else head
