"""What a user writes stays the user's: in the user role, and without a control token."""

import re
from typing import Any

import pytest
from injections import INJECTIONS

from chatmodel_runtime import prompts

# As the chat formats of the families we know have them; written anew here, not taken from prompts.
CONTROL = re.compile(
    r"<\|[a-z_]+\|>|</?think>|</?s>|</?tool_(?:call|response)>|<(?:start|end)_of_turn>"
    r"|\[/?INST\]|<</?SYS>>",
    re.I,
)
SUMMARY: dict[str, Any] = {"patient": {"sex": "female", "conditions": [{"display": "asthma"}]}}


def messages(query: str, summary: dict[str, Any] | None = None) -> list[dict[str, str]]:
    return prompts.build_triage_messages(query, summary)


def test_the_corpus_holds_control_tokens_to_be_found() -> None:
    assert sum(bool(CONTROL.search(attack)) for attack in INJECTIONS) >= 8


@pytest.mark.parametrize("attack", INJECTIONS, ids=lambda text: ascii(text)[:50])
@pytest.mark.parametrize("summary", [None, SUMMARY], ids=["no patient", "a patient"])
def test_an_injection_stays_in_the_user_role(attack: str, summary: dict[str, Any] | None) -> None:
    system, user = messages(f"before {attack} after", summary)
    assert system == {"role": "system", "content": prompts.SYSTEM}
    assert user["role"] == "user"
    assert "before" in user["content"] and user["content"].endswith("after")
    assert not CONTROL.search(user["content"])


@pytest.mark.parametrize("attack", INJECTIONS, ids=lambda text: ascii(text)[:50])
def test_an_injection_in_the_patients_record_does_no_more(attack: str) -> None:
    record = {
        "patient": {
            "sex": attack,
            "conditions": [{"display": attack}],
            "medications": [{"name": attack, "end_date": None}],
            "allergies": [{"substance": attack}],
        }
    }
    system, user = messages("How am I?", record)
    assert system["content"] == prompts.SYSTEM
    assert not CONTROL.search(user["content"])


@pytest.mark.parametrize(
    ("one", "other"),
    [("<|im_", "start|>"), ("<", "|im_start|>"), ("</th", "ink>"), ("[IN", "ST]"), ("<<S", "YS>>")],
)
def test_what_is_taken_away_leaves_no_new_token(one: str, other: str) -> None:
    for attack in INJECTIONS:
        for inner in (*CONTROL.findall(attack), "<|im_end|>"):
            assert not CONTROL.search(messages(f"{one}{inner}{other}")[1]["content"])
