"""One generation: messages to tokens, tokens to thinking and answer, within the limits of each.

Called by `scheduling`, which decides when. Chat template, control words, the split at `</think>`,
stop words and token limits are here once, whatever the engine.
"""

import contextlib
import dataclasses
import functools
from collections.abc import AsyncGenerator

from chatmodel_runtime import prompts
from chatmodel_runtime.engines import (
    Engine,
    EngineDead,
    FinishReason,
    Message,
    Request,
    Sampling,
    Tokenizer,
)
from chatmodel_runtime.splitting import OPEN, Delta, Splitter

CLOSING = "\n</think>\n\n"
OURS: Message = {"role": "system", "content": prompts.SYSTEM}


class PromptTooLong(Exception):
    """Prompt and a single token of answer are more than the model can hold."""

    def __init__(self, tokens: int, most: int) -> None:
        super().__init__(f"the prompt has {tokens} tokens, the model holds {most}")
        self.tokens, self.most = tokens, most


@dataclasses.dataclass(frozen=True)
class Budget:
    """Most tokens of thinking, of the answer and of both; sampling; what ends an answer.

    `owner` stands for the key that asks: what a client's own system message has cost to read is
    saved for the same owner alone.
    """

    thinking: int
    answer: int
    sampling: Sampling
    stop: tuple[str, ...] = ()
    total: int | None = None
    owner: str = ""


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer with its thinking apart; `tokens` are those of both."""

    thinking: str
    text: str
    prompt_tokens: int
    tokens: int
    thinking_tokens: int
    finish_reason: FinishReason
    thinking_truncated: bool


@dataclasses.dataclass(frozen=True)
class Prompt:
    """Messages as tokens; the first `shared` are those of the system message, ours or not."""

    tokens: list[int]
    shared: int
    is_ours: bool
    opens_thinking: bool


def build_prompt(tokenizer: Tokenizer, messages: list[Message]) -> Prompt:
    """Return the tokens of the messages, with no control token but the chat format's own."""
    words = tokenizer.control_words
    clean = [
        {"role": m["role"], "content": prompts.neutralise(m["content"], words)} for m in messages
    ]
    text = tokenizer.render(clean)
    tokens = tokenizer.encode(text)
    is_ours = clean[:1] == [OURS]
    if is_ours:
        system = _encode_ours(tokenizer)
    elif clean and clean[0]["role"] == "system":
        system = _encode_system(tokenizer, clean[0])
    else:
        system = []
    return Prompt(
        tokens=tokens,
        shared=_count_shared(system, tokens),
        is_ours=is_ours,
        opens_thinking=text.rstrip().endswith(OPEN),
    )


def _count_shared(system: list[int], tokens: list[int]) -> int:
    """Return how many tokens the system message has at the start of the prompt."""
    if tokens[: len(system)] == system:
        return len(system)
    differs = (
        at for at, pair in enumerate(zip(system, tokens, strict=False)) if len(set(pair)) > 1
    )
    return next(differs, min(len(system), len(tokens)))


def _encode_system(tokenizer: Tokenizer, message: Message) -> list[int]:
    return tokenizer.encode(tokenizer.render([message], ask=False))


@functools.lru_cache(maxsize=1)
def _encode_ours(tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of our own system message; a client's is kept nowhere."""
    return _encode_system(tokenizer, OURS)


class Generation:
    """Runs one answer on an engine; iterate over `run`, then read `answer`."""

    def __init__(self, engine: Engine, prompt: Prompt, budget: Budget) -> None:
        if len(prompt.tokens) >= engine.context_tokens:
            raise PromptTooLong(len(prompt.tokens), engine.context_tokens)
        self._engine = engine
        self._prompt = prompt
        self._budget = budget
        self._split = Splitter(opened=prompt.opens_thinking, stop=budget.stop)
        self._text = _Text(engine.tokenizer)
        self._made: list[int] = []  # with ours that closed the thinking
        self._thought = self._answered = 0
        self._thinking: list[str] = []
        self._pieces: list[str] = []
        self._finish: FinishReason | None = None
        self._truncated = False

    async def run(self) -> AsyncGenerator[Delta]:
        """Yield what becomes known, step by step. Raises what the engine raises."""
        if self._split.is_thinking and self._budget.thinking == 0:
            self._close_thinking()
        while self._finish is None and (request := self._next_request()) is not None:
            async with contextlib.aclosing(self._engine.submit(request)) as steps:
                async for step in steps:
                    yield self._note(self._take(step.tokens))
                    if self._has_ended(step.finish_reason):
                        break
                else:
                    raise EngineDead("a generation ended without saying why")
            if self._finish is None:
                yield self._note(self._close_thinking())
        rest = self._note(self._split.finish())
        if rest.thinking or rest.answer:
            yield rest

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the prompt has."""
        return len(self._prompt.tokens)

    @property
    def tokens(self) -> int:
        """How many tokens there are so far, thinking included."""
        return self._thought + self._answered

    @property
    def answer(self) -> Answer:
        """What was generated, once `run` is through."""
        return Answer(
            thinking="".join(self._thinking).strip(),
            text="".join(self._pieces).strip(),
            prompt_tokens=self.prompt_tokens,
            tokens=self.tokens,
            thinking_tokens=self._thought,
            finish_reason=self._finish or "length",
            thinking_truncated=self._truncated,
        )

    def _next_request(self) -> Request | None:
        """Return what to generate from, up to an end or until the thinking has to be closed."""
        tokens = self._prompt.tokens + self._made
        most = min(self._engine.context_tokens - len(tokens), self._room())
        if most <= 0:
            self._finish = "length"
            return None
        owner = "" if self._prompt.is_ours else self._budget.owner
        return Request(tokens, most, self._budget.sampling, self._prompt.shared, owner)

    def _has_ended(self, reason: FinishReason | None) -> bool:
        """Say whether this submission is over; the answer is not, when the model still thinks."""
        if self._finish is not None or self._is_over_thinking():
            return True
        if not self._split.is_thinking:
            self._finish = reason or ("length" if self._left() == 0 else None)
        return reason is not None or self._finish is not None

    def _room(self) -> int:
        """Return how many tokens are left of both budgets."""
        thinking = self._may_think() if self._split.may_think else 0
        return min(thinking + self._budget.answer - self._answered, self._total_left())

    def _take(self, tokens: list[int]) -> Delta:
        """Take a step's tokens: of an answer what it has left, of thinking one by one.

        Where the thinking ends within a step, the answer's limit counts from there.
        """
        thinking = answer = ""
        while tokens and self._finish is None and not self._is_over_thinking():
            thinks = self._split.is_thinking
            left = 1 if self._split.may_think else self._left()
            part, tokens = tokens[:left], tokens[left:]
            self._made += part
            if thinks:
                self._thought += len(part)
            else:
                self._answered += len(part)
            delta = self._split.feed(self._text.add(part))
            thinking, answer = thinking + delta.thinking, answer + delta.answer
            if self._split.is_stopped:
                self._finish = "stop"
            elif tokens and not self._split.is_thinking and self._left() == 0:
                self._finish = "length"
        return Delta(thinking, answer)

    def _may_think(self) -> int:
        """Return how many tokens of thinking are left."""
        return min(self._budget.thinking - self._thought, self._total_left())

    def _left(self) -> int:
        """Return how many tokens of the answer are left."""
        return min(self._budget.answer - self._answered, self._total_left())

    def _total_left(self) -> int:
        total = self._budget.total
        limit = self._budget.thinking + self._budget.answer if total is None else total
        return limit - self._thought - self._answered

    def _is_over_thinking(self) -> bool:
        return self._split.is_thinking and self._may_think() <= 0

    def _close_thinking(self) -> Delta:
        """Write the closing tag for the model, which goes on from there."""
        self._truncated = self._budget.thinking > 0
        self._made += self._engine.tokenizer.encode(CLOSING)
        self._text = _Text(self._engine.tokenizer)
        return self._split.close_thinking()

    def _note(self, delta: Delta) -> Delta:
        if delta.thinking:
            self._thinking.append(delta.thinking)
        if delta.answer:
            self._pieces.append(delta.answer)
        return delta


class _Text:
    """Tokens to text, piece by piece; half a letter waits for its other half.

    A token's text may depend on the one before it (leading spaces), so pieces are decoded with what
    was given last.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._tokens: list[int] = []
        self._given = 0

    def add(self, tokens: list[int]) -> str:
        """Return the text that the tokens complete."""
        self._tokens += tokens
        before = self._tokenizer.decode(self._tokens[: self._given]) if self._given else ""
        text = self._tokenizer.decode(self._tokens)
        if text.endswith("\ufffd") and len(self._tokens) - self._given < 8:
            return ""
        self._tokens = self._tokens[self._given :]
        self._given = len(self._tokens)
        return text[len(before) :]
