"""The interface every engine keeps. Each engine is the only importer of its library.

Which engine runs is decided in `__main__`; nothing here knows one.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, Protocol

Message = dict[str, str]
FinishReason = Literal["stop", "length"]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; temperature 0 is greedy, top_k 0 is off."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0


@dataclasses.dataclass(frozen=True)
class Completion:
    """What one generation gave. `text` holds what comes after prompt and prefix."""

    text: str
    prompt_tokens: int
    tokens: int
    finish_reason: FinishReason


class Cancelled(Exception):
    """The generation was cancelled before its end."""


class Engine(Protocol):
    """A loaded model. `load` and `complete` block, and run in the scheduler's worker threads."""

    name: str
    workers: int

    def load(self) -> None:
        """Load the model. Raises `errors.Failure`."""

    def opens_thinking(self) -> bool:
        """Say whether a prompt of this model ends inside the thinking part."""

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
        """Generate after the chat prompt and `prefix` until the end, `stop`, or `max_tokens`.

        `stop` is part of the text. `beat` is called at every step. Raises `Cancelled`.
        """
