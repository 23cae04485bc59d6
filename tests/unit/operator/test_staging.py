"""What is on the claim, as pods and the claim itself show it: staged, lost, too small."""

import dataclasses
from typing import Any

import pytest
from pictures import (
    COMMIT,
    INSPECTION,
    NOW,
    SETTINGS,
    Body,
    at,
    cast,
    chatmodel,
    failed,
    make_revision,
    picture,
    raw_container,
    raw_pod,
    ready_pods,
    serving,
    terminated,
)
from signs import report

from chatmodel_operator import rollout, staging
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.observed import Claim, Observed, Revision

SPEC: Body = {"mode": "qwen", "cache": {"strategy": "Persistent"}}
FILLED = {"inspection": INSPECTION, "commit": COMMIT, "engine": "Transformers"}
STAGED = {"staged": {"time": at(-100), "claimUID": "claim-1"}}
MOCK = make_revision(1, status=serving())
PLENTY = 20_000_000_000


def on_claim(status: Body) -> Revision:
    return make_revision(2, filled=FILLED, status=status, **SPEC)


def see(which: Revision, pod: Body, room: int = PLENTY, **meta: Any) -> Observed:
    """Return a mock that serves, and a revision on the claim with one pod."""
    seen = picture(
        chatmodel(**SPEC, **meta), MOCK, which, selected=MOCK, pods=[*ready_pods(MOCK, 1), pod]
    )
    claim = Claim("claim-1", True, False, False, room, room, "")
    return dataclasses.replace(seen, claim=claim)


def plan_of(seen: Observed) -> rollout.Plan:
    return rollout.plan_rollout(seen, SETTINGS, NOW)


def ended(which: Revision, reason: str, when: float, code: int = 75) -> Body:
    last = terminated(code, report(reason), when=when)
    return raw_pod(which, containers=[raw_container(restarts=1, last=last)], created=-90)


OPEN = {"verdict": "Pending", "startedAt": at(-120), "progressAt": at(-60)}
GOOD = OPEN | {"verdict": "Verified", "verifiedAt": at(-500)}


@pytest.mark.parametrize(
    ("status", "reason", "when", "is_lost"),
    [
        pytest.param(OPEN, "CacheMissing", -20, True, id="gone since it was staged"),
        pytest.param(OPEN, "CacheMissing", -101, False, id="gone before it was staged"),
        pytest.param(GOOD, "IntegrityError", -20, True, id="a verified model was changed"),
        pytest.param(GOOD, "IntegrityError", -101, False, id="changed before it was staged"),
        pytest.param(OPEN, "HubUnavailable", -20, False, id="another reason"),
    ],
)
def test_what_pods_miss_is_staged_again_once(
    status: Body, reason: str, when: float, is_lost: bool
) -> None:
    which = on_claim(status | STAGED)
    seen = dataclasses.replace(see(which, ended(which, reason, when)), selected=which.name)
    record = plan_of(seen).record
    taken_back = record is not None and record.status.get("staged", "") is None
    assert taken_back is is_lost


def test_a_changed_model_that_was_never_verified_is_a_bad_one() -> None:
    which = on_claim(OPEN | STAGED)
    record = plan_of(see(which, ended(which, "IntegrityError", -20, code=65))).record
    assert record is not None
    assert (record.status["verdict"], record.reason) == ("Failed", Reason.IntegrityError)


def test_a_claim_too_small_is_waited_for_with_both_numbers_and_no_job() -> None:
    which = on_claim(OPEN)
    plan = plan_of(see(which, ready_pods(MOCK, 1)[0], room=64 * 1024**2))
    assert plan.reason == Reason.InsufficientStorage
    assert "8 GB" in plan.message
    assert "67.1 MB" in plan.message
    assert plan.stage is None
    assert plan_of(see(which, ready_pods(MOCK, 1)[0])).stage is which


def test_a_claim_too_small_is_not_the_models_fault_however_long_it_takes() -> None:
    late = OPEN | {"startedAt": at(-90_000), "progressAt": at(-80_000)}
    record = plan_of(see(on_claim(late), ready_pods(MOCK, 1)[0], room=1)).record
    assert record is not None
    assert record.status == {"progressAt": at(0)}


def test_a_claim_that_is_not_bound_is_looked_at_again_for_its_events() -> None:
    seen = see(on_claim(OPEN), ready_pods(MOCK, 1)[0])
    bound = plan_of(seen).requeue_after
    assert bound is not None and bound > rollout.CLAIM_SECONDS
    waits = dataclasses.replace(seen, claim=Claim("claim-1", False, False, False, PLENTY, 0, ""))
    assert plan_of(waits).requeue_after == rollout.CLAIM_SECONDS


def test_two_quantizations_of_a_commit_are_two_folders_that_stay() -> None:
    whole = make_revision(1, filled=FILLED, status=serving() | STAGED, **SPEC)
    asked = SPEC | {"quantization": "Int4"}
    four = make_revision(2, filled=FILLED, status=OPEN, **asked)
    seen = picture(chatmodel(**asked), whole, four, selected=whole, pods=ready_pods(whole, 1))
    folder = f"Qwen--Qwen3-4B-Thinking-2507/{COMMIT}"
    assert staging.folders(cast(seen, four)) == [folder, f"{folder}-Int4"]


def test_a_retry_looks_at_the_claim_again() -> None:
    which = on_claim(failed("IntegrityError") | STAGED)
    record = plan_of(see(which, ready_pods(MOCK, 1)[0], retry="now")).record
    assert record is not None
    assert record.status["staged"] is None
