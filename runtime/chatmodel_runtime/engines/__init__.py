"""The interface every engine keeps: tokens in, a stream of tokens out.

Each engine is the only importer of its library. Which engine runs is decided in `commands`; nothing
here knows one. Chat template, stop words, thinking and limits are `generating`'s, once for all.
"""

import dataclasses
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Literal, Protocol

Message = dict[str, str]
FinishReason = Literal["stop", "length"]


class EngineDead(Exception):
    """The engine's thread or process has ended: only a restart helps."""


class BadOutput(Exception):
    """The model's output is not a number."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; temperature 0 is greedy, top_k 0 is off."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0


@dataclasses.dataclass(frozen=True)
class Request:
    """What to generate from.

    `prompt` and `max_tokens` together fit `Engine.context_tokens`. The first `shared` tokens of the
    prompt are the system message: only of them may anything be kept for other requests, and only
    for those of the same `owner`.
    """

    prompt: list[int]
    max_tokens: int
    sampling: Sampling = Sampling()
    shared: int = 0
    owner: str = ""


@dataclasses.dataclass(frozen=True)
class Step:
    """What one step of the engine gave a request; the end token is not among the tokens."""

    tokens: list[int]
    finish_reason: FinishReason | None = None


class Tokenizer(Protocol):
    """Text to tokens and back, as the model's own files have it; known by its identity."""

    def __hash__(self) -> int: ...

    @property
    def control_words(self) -> Sequence[str]:
        """What would be read as a control token."""

    def render(self, messages: list[Message], *, ask: bool = True) -> str:
        """Return the messages in the model's chat format; with `ask`, up to its answer."""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text; control tokens in it are taken for such."""

    def decode(self, tokens: list[int]) -> str:
        """Return the text; what is no whole letter yet ends in U+FFFD."""


class Pulse:
    """When the step under way began, how long the slowest took, and all of them (seconds).

    Written by the engine's thread, read by the event loop: single words, no lock.
    """

    def __init__(self) -> None:
        self.began: float | None = None
        self.slowest = 0.0
        self.steps = 0
        self.spent = 0.0

    def begin(self) -> None:
        """A step begins."""
        self.began = time.monotonic()

    def end(self) -> None:
        """The step is over."""
        if self.began is not None:
            seconds = time.monotonic() - self.began
            self.slowest = max(self.slowest, seconds)
            self.steps += 1
            self.spent += seconds
        self.began = None

    def seconds(self) -> float:
        """Return how long the step under way has taken; 0 between steps."""
        began = self.began
        return 0.0 if began is None else time.monotonic() - began


class Engine(Protocol):
    """A model. `tokenizer`, `context_tokens` and `max_active` hold once it is loaded."""

    name: str
    pulse: Pulse
    context_tokens: int  # prompt and answer together
    max_active: int  # requests that one step can serve

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""

    def load(self) -> None:
        """Load the model and measure it; blocks. Raises `errors.Failure`."""

    def submit(self, request: Request) -> AsyncGenerator[Step]:
        """Generate until the end token or `max_tokens`; closing the generator cancels.

        Raises `EngineDead` and `BadOutput`.
        """

    def is_alive(self) -> bool:
        """Say whether the engine's thread or process still runs."""

    def close(self) -> None:
        """Let go of threads, processes and memory."""
