"""From generated text to an answer: thinking apart, urgency, the fixed note. Pure.

Called by `triage` and `scheduling`. The red flags look at the question alone: nothing that a model
says, and nothing that a user tells it to say, can lower what they found.
"""

import dataclasses
import re
import unicodedata
from typing import Literal

Urgency = Literal["emergency", "urgent", "unknown"]

SAFETY_NOTE = (
    "This is not a medical device and no diagnosis."
    " In an emergency call your local emergency number."
)


@dataclasses.dataclass(frozen=True)
class RedFlag:
    """Phrases that make a question urgent, whatever a model says.

    In a phrase "…" stands for up to three words, and a word that ends in "-" for all that begin so.
    """

    name: str
    urgency: Urgency
    phrases: tuple[str, ...]


def _flag(name: str, urgency: Urgency, phrases: str) -> RedFlag:
    return RedFlag(name, urgency, tuple(phrases.split(", ")))


# Deliberately short; a match only raises. docs/triage.md shows it, and a test compares.
RED_FLAGS = (
    _flag(
        "chest pain",
        "emergency",
        "chest pain-, pain- … chest, chest … hurt-, pressure … chest, chest pressure, "
        "tight- … chest, chest … tight-, crushing pain, heart attack",
    ),
    _flag(
        "breathing",
        "emergency",
        "can't … breathe, cannot … breathe, can not … breathe, cant … breathe, short- of "
        "breath, not breathing, stopped breathing, struggl- to breathe, trouble breathing, "
        "difficulty breathing, hard to breathe, choking",
    ),
    _flag(
        "stroke",
        "emergency",
        "stroke-, face … droop-, droop- … face, slurr- … speech, speech … slurr-, numb … one "
        "side, weak- … one side",
    ),
    _flag(
        "consciousness",
        "emergency",
        "unconscious, unresponsive, won't wake, not wake up, seizure-, convuls-",
    ),
    _flag(
        "bleeding",
        "emergency",
        "severe bleeding, heavy bleeding, bleeding … heavily, bleeding won't stop, won't "
        "stop bleeding, bleeding … not stop",
    ),
    _flag(
        "self-harm",
        "emergency",
        "suicid-, kill myself, end my life, want to die, harm- myself, hurt myself",
    ),
    _flag(
        "poisoning",
        "emergency",
        "overdos-, poison-, too many pills, too many tablets",
    ),
    _flag(
        "allergic shock",
        "emergency",
        "anaphyla-, throat … clos-, throat … swell-, throat … swollen, tongue … swell-, "
        "tongue … swollen",
    ),
    _flag(
        "fever and neck",
        "urgent",
        "high fever, stiff neck, neck … stiff",
    ),
    _flag(
        "blood",
        "urgent",
        "blood in, vomit- blood, cough- … blood, pregnan- … bleed-, bleed- … pregnan-",
    ),
    _flag(
        "pain and injury",
        "urgent",
        "severe pain, worst headache, head injury, hit … head",
    ),
    _flag(
        "senses",
        "urgent",
        "suddenly blind, sudden- … vision, fainted, fainting, passed out",
    ),
)


def _compile(urgency: Urgency) -> re.Pattern[str]:
    """Return what finds the flags of one urgency in words with one space before each."""

    def word(part: str) -> str:
        if part == "…":
            return r"(?: \S+){0,3}"
        return f" {re.escape(part[:-1])}\\S*" if part.endswith("-") else f" {re.escape(part)}"

    phrases = [p for flag in RED_FLAGS if flag.urgency == urgency for p in flag.phrases]
    ways = ("".join(word(part) for part in phrase.split(" ")) for phrase in phrases)
    return re.compile(f"(?:{'|'.join(ways)})(?= )")


_EMERGENCY, _URGENT = _compile("emergency"), _compile("urgent")
_NO_WORD = re.compile(r"[^\w']+|_+")


def urgency_of(query: str) -> Urgency:
    """Return emergency, urgent or unknown, from the red-flag list only."""
    text = query.casefold() if query.isascii() else _fold(query)
    text = f" {_NO_WORD.sub(' ', text)} ".replace("  ", " ")
    if _EMERGENCY.search(text):
        return "emergency"
    return "urgent" if _URGENT.search(text) else "unknown"


def _fold(query: str) -> str:
    text = unicodedata.normalize("NFKC", query).replace("\u2019", "'").casefold()
    # Letters that are not seen must not hide one that is.
    return "".join(c for c in text if unicodedata.category(c) != "Cf")
