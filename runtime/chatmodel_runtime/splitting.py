"""A text that arrives in pieces: what of it is thinking, what answer, and where it stops. Pure.

Called by `generating`. Nothing that may be part of a tag or of a stop word is given away before it
is known not to be.
"""

import dataclasses
from collections.abc import Sequence

OPEN, CLOSE = "<think>", "</think>"


@dataclasses.dataclass(frozen=True)
class Delta:
    """What became known of thinking and answer."""

    thinking: str = ""
    answer: str = ""


class Splitter:
    """Splits one generation; `opened`: the prompt ended inside the thinking part."""

    def __init__(self, *, opened: bool, stop: Sequence[str] = ()) -> None:
        self.is_thinking = opened
        self.is_stopped = False
        self._may_open = not opened
        # A model that has thought may close its thinking again: that is no part of the answer.
        self._dropped: tuple[str, ...] = (CLOSE,) if opened else ()
        self._stop = tuple(stop)
        self._held = ""
        self._said = False  # something of the part under way, so that white space counts

    @property
    def may_think(self) -> bool:
        """Whether it thinks, or may still begin to."""
        return self.is_thinking or self._may_open

    def feed(self, text: str) -> Delta:
        """Take the next piece and return what it settles."""
        if self.is_stopped:
            return Delta()
        self._held += text
        thinking = ""
        if self._may_open and not self._open():
            return Delta()
        if self.is_thinking:
            thinking = self._think()
            if self.is_thinking:
                return Delta(thinking=thinking)
        return Delta(thinking=thinking, answer=self._answer())

    def close_thinking(self) -> Delta:
        """End the thinking from outside; what was held back belongs to it."""
        rest, self._held = self._held, ""
        self.is_thinking, self._said, self._may_open = False, False, False
        return Delta(thinking=rest)

    def finish(self) -> Delta:
        """Return what was held back: nothing more comes."""
        rest, self._held = self._held, ""
        if self.is_stopped:
            return Delta()
        if not self._said:
            rest = rest.lstrip()
        return Delta(thinking=rest) if self.is_thinking else Delta(answer=rest)

    def _open(self) -> bool:
        """Decide whether the model opens its thinking itself; False while that is not known."""
        start = self._held.lstrip()
        if start.startswith(OPEN):
            self._held, self.is_thinking, self._may_open = start[len(OPEN) :], True, False
            self._dropped = (CLOSE,)
        elif start and not OPEN.startswith(start):
            self._may_open = False
        return not self._may_open

    def _think(self) -> str:
        before, closed, after = self._held.partition(CLOSE)
        if closed:
            self._held, self.is_thinking = after, False
            said, self._said = self._said, False
            return before if said else before.lstrip()
        return self._give(self._held, (CLOSE,))

    def _answer(self) -> str:
        given, words = "", (*self._stop, *self._dropped)
        while found := [(self._held.find(word), word) for word in words if word in self._held]:
            at, word = min(found)
            before, self._held = self._held[:at], self._held[at + len(word) :]
            given += before if self._said else before.lstrip()
            self._said = self._said or bool(given)
            if word in self._stop:
                self.is_stopped = True
                return given
        return given + self._give(self._held, words)

    def _give(self, text: str, words: Sequence[str]) -> str:
        """Give away all but an end that could begin one of the words."""
        if not self._said:
            text = text.lstrip()
        keep = max((_overlap(text, word) for word in words), default=0)
        cut = len(text) - keep
        self._held, given = text[cut:], text[:cut]
        self._said = self._said or bool(given)
        return given


def _overlap(text: str, word: str) -> int:
    """Return how many letters at the end of the text begin the word."""
    sizes = range(min(len(text), len(word) - 1), 0, -1)
    return next((size for size in sizes if text.endswith(word[:size])), 0)
