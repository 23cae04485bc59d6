"""From a question and a patient's summary to chat messages. Pure.

The system message never changes, so that engines can share its prefix. Patient data goes without
record number, name, birth date and address; what a user wrote stays in the user role, and nothing
in it is a control token.
"""

import re
from collections.abc import Iterable
from typing import Any

SYSTEM = (
    "You are a careful triage assistant. Say how urgent it is and what to do next, in plain words."
)
VERIFICATION_QUERY = "I have a mild sore throat since yesterday."

Message = dict[str, str]

# Control tokens of the chat formats we know, <|im_start|> and the like, and thinking tags.
_CONTROL = re.compile(
    r"<\|[^|<>]{0,40}\|>|</?(?:think|s|tool_call|tool_response)>|<(?:start|end)_of_turn>"
    r"|\[/?INST\]|<</?SYS>>",
    re.I,
)
_NESTED = 4  # passes; who nests control tokens deeper than that loses all signs they are made of
_SIGNS = str.maketrans("<>|[]", "     ")


def neutralise(text: str, words: Iterable[str] = ()) -> str:
    """Return the text without anything a tokenizer could take for a control token.

    `words` are those of the tokenizer at hand, beside the ones that are known everywhere.
    """
    for _ in range(_NESTED):
        before, text = text, _CONTROL.sub(" ", text)
        if text == before:
            break
    else:
        text = text.translate(_SIGNS)
    for word in words:
        text = text.replace(word, " ")
    return text.strip()


def build_triage_messages(query: str, summary: dict[str, Any] | None) -> list[Message]:
    """Return the messages for one question; `summary` is the patient API's, or None."""
    facts = describe_patient(summary) if summary else ""
    user = neutralise(query)
    content = f"Patient: {facts}\n\nQuestion: {user}" if facts else user
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]


def describe_patient(summary: dict[str, Any]) -> str:
    """Return sex, conditions, medications and allergies on one line; never who the patient is."""
    patient = summary.get("patient") or {}
    parts = [
        ("sex", [_text(patient, "sex")] if patient.get("sex") else []),
        ("conditions", [_text(c, "display") for c in patient.get("conditions") or []]),
        ("medications", medications(summary)),
        ("allergies", [_text(a, "substance") for a in patient.get("allergies") or []]),
    ]
    facts = "; ".join(f"{name}: {', '.join(values)}" for name, values in parts if values)
    return neutralise(facts)


def medications(summary: dict[str, Any]) -> list[str]:
    """Return the names of the medications the patient takes now."""
    items = (summary.get("patient") or {}).get("medications") or []
    return [_text(m, "name") for m in items if not m.get("end_date")]


def _text(item: dict[str, Any], key: str) -> str:
    return str(item.get(key) or "").strip()
