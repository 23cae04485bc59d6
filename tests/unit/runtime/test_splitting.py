"""Thinking, answer and stop words come apart, however the text is cut into pieces."""

import itertools
import random

import pytest

from chatmodel_runtime.splitting import Splitter


def split(
    pieces: list[str], *, opened: bool = False, stop: tuple[str, ...] = ()
) -> tuple[str, str, bool]:
    splitter = Splitter(opened=opened, stop=stop)
    deltas = [splitter.feed(piece) for piece in pieces] + [splitter.finish()]
    thinking = "".join(delta.thinking for delta in deltas)
    return thinking, "".join(delta.answer for delta in deltas), splitter.is_stopped


CASES = [
    pytest.param("Rest.", {}, ("", "Rest.", False), id="an answer alone"),
    pytest.param("hm\n</think>\n\nRest.", {"opened": True}, ("hm\n", "Rest.", False), id="opened"),
    pytest.param(
        " <think>hm</think>Rest.", {}, ("hm", "Rest.", False), id="the model opens it itself"
    ),
    pytest.param("still", {"opened": True}, ("still", "", False), id="never closed"),
    pytest.param("a < b </ c", {}, ("", "a < b </ c", False), id="what is no tag"),
    pytest.param("x</think", {"opened": True}, ("x</think", "", False), id="half a tag"),
    pytest.param("<thin", {}, ("", "<thin", False), id="half an opening tag"),
    pytest.param("one END two", {"stop": ("END",)}, ("", "one ", True), id="a stop word"),
    pytest.param("aXbYc", {"stop": ("Y", "X")}, ("", "a", True), id="the first of two"),
    pytest.param("one EN", {"stop": ("END",)}, ("", "one EN", False), id="half a stop word"),
    pytest.param(
        "END</think>ok END no",
        {"opened": True, "stop": ("END",)},
        ("END", "ok ", True),
        id="stop words do not stop thinking",
    ),
    pytest.param(
        "hm</think></think>\n Re</think>st.</thi",
        {"opened": True},
        ("hm", "Rest.</thi", False),
        id="closed again and again",
    ),
    pytest.param(
        "</think>EN</think>D END no",
        {"opened": True, "stop": ("END",)},
        ("", "END ", True),
        id="a tag does not make a stop word",
    ),
    pytest.param("a</think>b", {}, ("", "a</think>b", False), id="no thinking, so no tag"),
    pytest.param("  \n Rest. ", {}, ("", "Rest. ", False), id="white space before it is dropped"),
    pytest.param("", {"opened": True}, ("", "", False), id="nothing"),
]


@pytest.mark.parametrize(("text", "options", "expected"), CASES)
def test_a_text_comes_apart_however_it_is_cut(
    text: str, options: dict[str, object], expected: tuple[str, str, bool]
) -> None:
    assert split([text], **options) == expected  # type: ignore[arg-type]
    assert split(list(text), **options) == expected  # type: ignore[arg-type]
    chance = random.Random(text)
    for _ in range(50):
        cuts = sorted(chance.choices(range(len(text) + 1), k=3))
        ends = [0, *cuts, len(text)]
        pieces = [text[a:b] for a, b in itertools.pairwise(ends)]
        assert split(pieces, **options) == expected  # type: ignore[arg-type]


def test_what_cannot_be_a_tag_any_more_is_given_at_once() -> None:
    splitter = Splitter(opened=False, stop=("END",))
    assert splitter.feed("Rest E").answer == "Rest "
    assert splitter.feed("at").answer == "Eat"


def test_closing_from_outside_gives_what_was_held_back() -> None:
    splitter = Splitter(opened=True)
    assert splitter.feed("hm </th").thinking == "hm "
    assert splitter.close_thinking().thinking == "</th"
    assert splitter.feed("\nRest.").answer == "Rest."
