"""The published list of reasons, and its page."""

import pathlib
import re

import pytest

from chatmodel_operator.api import reasons_page
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.api.reasons_explained import EXPLANATIONS

ROOT = pathlib.Path(__file__).parents[3]


def test_every_reason_is_explained() -> None:
    assert set(EXPLANATIONS) == set(Reason)


@pytest.mark.parametrize("reason", list(Reason))
def test_a_reason_is_one_camel_case_word(reason: Reason) -> None:
    assert re.fullmatch(r"([A-Z][a-z]+|OOM)([A-Z][a-z]+)*", reason.value)
    assert reason.name == reason.value


@pytest.mark.parametrize("reason", list(Reason))
def test_an_explanation_is_two_sentences(reason: Reason) -> None:
    row = EXPLANATIONS[reason]
    for text in (row.meaning, row.cure):
        # A capital, or a field or command as it is typed.
        assert re.fullmatch(r"([A-Z]|spec\.).*[a-z0-9`]\.", text), text
        assert "|" not in text, "it is a cell of a table"


def test_the_page_of_reasons_is_in_step_and_has_each_once() -> None:
    page = (ROOT / "docs/reasons.md").read_text()
    assert page == reasons_page.build_page()
    rows = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert sorted(rows) == sorted(Reason)
