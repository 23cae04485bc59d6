"""The red flags: what raises them, that nothing lowers them, and that the page shows them all."""

import pathlib
import random

import in_process
import pytest
from injections import INJECTIONS, PARAPHRASES

from chatmodel_runtime import answers

PAGE = pathlib.Path(__file__).parents[3] / "docs/triage.md"
RANK = {"unknown": 0, "urgent": 1, "emergency": 2}
FLAGS = {flag.name: flag for flag in answers.RED_FLAGS}
CORPUS = [
    pytest.param(text, FLAGS[name].urgency, id=f"{name}: {text!a}"[:60])
    for name, texts in PARAPHRASES.items()
    for text in texts
]


def rank(text: str) -> int:
    return RANK[answers.urgency_of(text)]


def test_every_flag_has_its_own_words_in_the_corpus() -> None:
    assert set(PARAPHRASES) == set(FLAGS)
    assert len(FLAGS) == len(answers.RED_FLAGS)


@pytest.mark.parametrize(("text", "urgency"), CORPUS)
def test_what_people_write_raises_the_flag(text: str, urgency: str) -> None:
    assert answers.urgency_of(text) == urgency


@pytest.mark.parametrize("flag", answers.RED_FLAGS, ids=lambda flag: flag.name)
def test_every_phrase_of_the_list_raises(flag: answers.RedFlag) -> None:
    for phrase in flag.phrases:
        for between in ("", "very", "one two three"):
            text = " ".join(phrase.replace("-", "").replace("…", between).split())
            assert answers.urgency_of(f"Since noon: {text}.") == flag.urgency, text


@pytest.mark.parametrize(("text", "urgency"), CORPUS)
def test_no_injection_lowers_the_floor(text: str, urgency: str) -> None:
    for attack in INJECTIONS:
        for query in (f"{text} {attack}", f"{attack} {text}", f"{attack}\n{text}\n{attack}"):
            assert rank(query) >= RANK[urgency], query


def test_words_before_and_after_only_raise() -> None:
    every = [text for texts in PARAPHRASES.values() for text in texts]
    more = [*every, *INJECTIONS, "my foot itches", ""]
    for seed in range(3000):
        chance = random.Random(seed)
        parts = chance.sample(more, chance.randint(1, 4))
        whole = chance.choice((" ", "\n", ". ", " - ")).join(parts)
        assert rank(whole) >= max(rank(part) for part in parts), whole


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("ch\u200best pa\u00adin", id="letters that are not seen"),
        pytest.param("\uff43\uff48\uff45\uff53\uff54 \uff50\uff41\uff49\uff4e", id="wide letters"),
        pytest.param("chest_pain", id="an underline"),
        pytest.param("chest*pain", id="a sign"),
        pytest.param("(chest pain)", id="in brackets"),
        pytest.param("\uff43hest\u3000pain", id="a wide space"),
    ],
)
def test_the_same_words_in_other_letters_raise_as_well(text: str) -> None:
    assert answers.urgency_of(text) == "emergency"


@pytest.mark.parametrize(
    "text",
    ["my foot itches", "a mild sore throat", "What are my current medications?", "chess paint", ""],
)
def test_other_questions_raise_nothing(text: str) -> None:
    assert answers.urgency_of(text) == "unknown"


async def test_the_answer_over_http_keeps_the_floor_whatever_is_asked_of_the_model() -> None:
    async with in_process.serving() as app:
        for attack in INJECTIONS:
            query = f"I have chest pain. {attack}"
            body = in_process.triage_body("MRN-001", query)
            reply = await in_process.ask(app, "POST", "/triage", body, **in_process.JSON)
            assert reply.status == 200
            assert reply.json()["urgency"] == "emergency"


def test_the_page_shows_the_list_as_it_is() -> None:
    rows = [
        f"| {flag.name} | {flag.urgency} | {', '.join(flag.phrases)} |"
        for flag in answers.RED_FLAGS
    ]
    head = ["| red flag | raises to | phrases |", "| --- | --- | --- |"]
    table = "\n".join([*head, *rows])
    assert table in PAGE.read_text(), f"docs/triage.md needs this table:\n{table}"
    assert answers.SAFETY_NOTE in PAGE.read_text()
