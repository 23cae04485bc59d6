"""From generated text to an answer: thinking apart, urgency, the fixed note. Pure."""

import re
from typing import Literal

Urgency = Literal["emergency", "urgent", "unknown"]

SAFETY_NOTE = (
    "This is not a medical device and no diagnosis."
    " In an emergency call your local emergency number."
)

# Words that make a question urgent whatever a model says. Deliberately short; a match only raises.
_EMERGENCY = re.compile(
    r"chest pain|pain in (?:my|the|his|her) chest|crushing pain|heart attack|seizure"
    r"|can(?: ?no|')t breathe|short(?:ness)? of breath|unconscious"
    r"|not breathing|stroke|face droop|slurred speech|severe bleeding|suicid|overdos|anaphyla",
    re.I,
)
_URGENT = re.compile(
    r"high fever|stiff neck|blood in|vomiting blood|severe pain|head injury|pregnan\w* bleed"
    r"|suddenly blind|fainted",
    re.I,
)


def urgency_of(query: str) -> Urgency:
    """Return emergency, urgent or unknown, from the red-flag list only."""
    text = " ".join(query.replace("\u2019", "'").split())
    if _EMERGENCY.search(text):
        return "emergency"
    return "urgent" if _URGENT.search(text) else "unknown"


def split_thinking(text: str, *, opened: bool) -> tuple[str, str]:
    """Return (thinking, answer) of a text; `opened`: the prompt ended inside the thinking part."""
    before, closed, after = text.partition("</think>")
    if closed:
        return before.removeprefix("<think>").strip(), after.strip()
    if opened or text.lstrip().startswith("<think>"):
        return text.replace("<think>", "").strip(), ""
    return "", text.strip()
