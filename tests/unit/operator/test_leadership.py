"""Whose the Lease is: judged by what changes before our eyes, never by the times written in it."""

import datetime
from typing import Any

import pydantic
import pytest

from chatmodel_operator.leadership import Sighting, read_lease
from chatmodel_operator.settings import LeaderElection, Settings

NOW = datetime.datetime(2026, 11, 26, 12, 0, tzinfo=datetime.UTC)
LONG_AGO = "2020-01-01T00:00:00.000000Z"
AT = 1000.0


def lease(version: int = 1, **spec: Any) -> dict[str, Any]:
    usual = {"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": LONG_AGO}
    return {"metadata": {"resourceVersion": str(version)}, "spec": usual | spec}


def seen(*bodies: dict[str, Any], every: float = 2.0) -> Sighting:
    """Return what a candidate knows after readings at AT, AT + every, and so on."""
    sighting = Sighting("me")
    for number, body in enumerate(bodies):
        sighting.see(read_lease(body), AT + number * every)
    return sighting


@pytest.mark.parametrize(
    ("sighting", "after", "is_ours"),
    [
        pytest.param(Sighting("me"), 0.0, True, id="no Lease is there for the taking"),
        pytest.param(seen(lease(holderIdentity=None)), 0.0, True, id="one that was given back"),
        pytest.param(seen(lease(holderIdentity="")), 0.0, True, id="an empty holder is none"),
        pytest.param(seen(lease(holderIdentity="me")), 0.0, True, id="our own, after a restart"),
        pytest.param(seen(lease()), 0.0, False, id="an old renewTime alone says nothing"),
        pytest.param(seen(lease()), 15.0, False, id="its duration is not over"),
        pytest.param(seen(lease()), 15.1, True, id="unchanged for longer than its duration"),
        pytest.param(seen(lease(1), lease(1)), 15.1, True, id="reading it again changes nothing"),
        pytest.param(seen(lease(1), lease(2)), 15.1, False, id="a renewal begins the time anew"),
        pytest.param(seen(lease(1), lease(2)), 17.1, True, id="and it runs out from then"),
        pytest.param(
            seen(lease(leaseDurationSeconds=60)), 20.0, False, id="the holder's duration counts"
        ),
        pytest.param(seen({"metadata": {"resourceVersion": "1"}}), 0.0, True, id="an empty one"),
    ],
)
def test_a_lease_is_taken_when_nobody_can_hold_it(
    sighting: Sighting, after: float, is_ours: bool
) -> None:
    assert sighting.is_ours_to_take(AT + after) is is_ours


def test_taking_it_over_counts_a_transition() -> None:
    spec = seen(lease(leaseTransitions=4, acquireTime=LONG_AGO)).next_spec(LeaderElection(), NOW)
    stamp = "2026-11-26T12:00:00.000000Z"
    assert spec == {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "acquireTime": stamp,
        "renewTime": stamp,
        "leaseTransitions": 5,
    }


def test_renewing_it_keeps_when_it_was_acquired() -> None:
    mine = lease(holderIdentity="me", leaseTransitions=4, acquireTime=LONG_AGO)
    spec = seen(mine).next_spec(LeaderElection(), NOW)
    assert (spec["acquireTime"], spec["leaseTransitions"]) == (LONG_AGO, 4)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        pytest.param({"leaseDurationSeconds": 10}, "leaseDurationSeconds", id="no time to stop"),
        pytest.param({"retrySeconds": 6}, "renewDeadlineSeconds", id="one try is no try"),
    ],
)
def test_settings_that_let_two_lead_are_refused(values: dict[str, int], word: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=word):
        Settings.model_validate({"leaderElection": values})
