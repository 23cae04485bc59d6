"""The statuses of an audit log: a true story passes, each planted lie is found."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import recorded
from status_story import LATER, story

Body = dict[str, Any]


def status(events: list[Body], place: int) -> Body:
    found: Body = events[place]["responseObject"]["status"]
    return found


def ready(events: list[Body], place: int) -> Body:
    found: Body = status(events, place)["conditions"][0]
    return found


def test_a_true_story_has_no_lie_in_any_order() -> None:
    assert list(recorded.lies(reversed(story()))) == []
    assert recorded.count(story()) == 3


LIES: dict[str, tuple[Callable[[list[Body]], Any], str]] = {
    "no Ready": (lambda e: status(e, 0)["conditions"].pop(0), "has no Ready"),
    "two generations": (lambda e: ready(e, 2).update(observedGeneration=0), "generations [0, 1]"),
    "a generation to come": (
        lambda e: e[2]["responseObject"]["metadata"].update(generation=0),
        "generations [1]",
    ),
    "not Stalled": (
        lambda e: status(e, 3)["conditions"][4].update(status="False"),
        "Stalled is there and not True",
    ),
    "a time that moves alone": (
        lambda e: status(e, 2)["conditions"][2].update(lastTransitionTime=LATER),
        "Progressing moved without a change",
    ),
    "a time that moves back": (
        lambda e: ready(e, 2).update(lastTransitionTime="2025-01-01T00:00:00Z"),
        "Ready moved back in time",
    ),
    "Ready too early": (
        lambda e: status(e, 2).update(target={"revision": "a-2"}),
        "a-1 serves and a-2 was asked for",
    ),
    "Ready unverified": (
        lambda e: status(e, 1).update(verdict="Pending"),
        "its revision is Pending",
    ),
    "a rollback without its failure": (
        lambda e: status(e, 3).pop("lastFailure"),
        "not all of it is told",
    ),
    "a reason of its own": (
        lambda e: ready(e, 0).update(reason="Because"),
        "Because is no published reason",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_planted_lie_is_found(lie: str) -> None:
    plant, sentence = LIES[lie]
    events = copy.deepcopy(story())
    plant(events)
    assert any(sentence in found for found in recorded.lies(events))


def test_what_somebody_else_wrote_or_was_refused_is_not_held_against_the_operator() -> None:
    events = story()
    for place in (0, 2, 3):
        ready(events, place).update(reason="Because")
    events[0]["requestURI"] = "/apis/x?fieldManager=kubectl-edit"
    events[2]["responseStatus"]["code"] = 409
    del events[3]["responseObject"]
    assert list(recorded.lies(events)) == []
