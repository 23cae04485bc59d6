"""Conditions: which are there, what they say, and when their time moves."""

import datetime
from typing import Any

import pytest
from pictures import (
    NOW,
    Body,
    at,
    cast,
    chatmodel,
    failed,
    make_revision,
    picture,
    ready_pods,
    serving,
)

from chatmodel_operator import conditions, rollout
from chatmodel_operator.api.chatmodelstatus import ChatModelStatus
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.observed import Observed

GOOD = make_revision(1, status=serving())
BAD = make_revision(2, mode="qwen", status=failed())
NEW = make_revision(3, mode="qwen", status={"startedAt": at(-20)})
FIRST_BAD = make_revision(1, status=failed())


def build(seen: Observed, plan: rollout.Plan, later: float = 0) -> dict[str, Body]:
    now = NOW + datetime.timedelta(seconds=later)
    return {c["type"]: c for c in conditions.build_conditions(seen, plan, now)}


def words(seen: Observed, plan: rollout.Plan) -> dict[str, tuple[str, str]]:
    return {kind: (c["status"], c["reason"]) for kind, c in build(seen, plan).items()}


def serves(ready: int = 1, replicas: int = 1, **model: Any) -> tuple[Observed, rollout.Plan]:
    """Return a picture in which GOOD is what was asked for and serves."""
    asked = chatmodel(replicas=replicas, **model)
    seen = picture(asked, GOOD, selected=GOOD, pods=ready_pods(GOOD, ready))
    reason = Reason.Serving if ready else Reason.Starting
    return seen, rollout.Plan(reason, f"{ready} pods", cast(seen, GOOD))


def test_what_was_asked_for_serves() -> None:
    assert words(*serves()) == {
        "Ready": ("True", "Serving"),
        "Available": ("True", "Serving"),
        "Progressing": ("False", "Serving"),
    }


def test_fewer_pods_than_wanted_are_degraded_but_ready() -> None:
    seen, plan = serves(ready=1, replicas=3)
    said = words(seen, plan)
    assert said["Ready"] == said["Available"] == ("True", "Serving")
    assert said["Degraded"] == ("True", "PartiallyAvailable")
    assert "1 of 3 pods" in build(seen, plan)["Degraded"]["message"]


def test_without_a_ready_pod_nothing_is_available() -> None:
    assert words(*serves(ready=0)) == {
        "Ready": ("False", "Starting"),
        "Available": ("False", "Starting"),
        "Progressing": ("True", "Starting"),
        "Degraded": ("True", "PartiallyAvailable"),
    }


def test_a_rollout_under_way_leaves_the_old_one_available() -> None:
    seen = picture(chatmodel(mode="qwen"), GOOD, NEW, selected=GOOD, pods=ready_pods(GOOD, 1))
    assert words(seen, rollout.Plan(Reason.Downloading, "5 %", cast(seen, NEW))) == {
        "Ready": ("False", "Downloading"),
        "Available": ("True", "Serving"),
        "Progressing": ("True", "Downloading"),
    }


def test_rolled_back_is_available_degraded_and_stalled() -> None:
    seen = picture(chatmodel(mode="qwen"), GOOD, BAD, selected=GOOD, pods=ready_pods(GOOD, 1))
    plan = rollout.Plan(Reason.RolledBack, "2 failed", cast(seen, BAD), is_stalled=True)
    assert words(seen, plan) == {
        "Ready": ("False", "RolledBack"),
        "Available": ("True", "Serving"),
        "Progressing": ("False", "RolledBack"),
        "Degraded": ("True", "RolledBack"),
        "Stalled": ("True", "RolledBack"),
    }


def test_rolling_back_goes_on_by_itself() -> None:
    seen = picture(chatmodel(mode="qwen"), GOOD, BAD, selected=BAD, pods=ready_pods(GOOD, 0))
    plan = rollout.Plan(Reason.RollingBack, "2 failed", cast(seen, BAD))
    assert words(seen, plan) == {
        "Ready": ("False", "RollingBack"),
        "Available": ("False", "RollingBack"),
        "Progressing": ("True", "RollingBack"),
        "Degraded": ("True", "RollingBack"),
    }


def test_a_first_revision_that_is_bad_is_stalled_and_nothing_is_degraded() -> None:
    seen = picture(chatmodel(), FIRST_BAD)
    plan = rollout.Plan(
        Reason.NoPreviousRevision, "1 failed", cast(seen, FIRST_BAD), is_stalled=True
    )
    assert words(seen, plan) == {
        "Ready": ("False", "NoPreviousRevision"),
        "Available": ("False", "NothingServes"),
        "Progressing": ("False", "NoPreviousRevision"),
        "Stalled": ("True", "NoPreviousRevision"),
    }


@pytest.mark.parametrize(
    "ever_served", [pytest.param(True, id="after serving"), pytest.param(False, id="never served")]
)
def test_stopped_is_a_wish_and_no_fault(ever_served: bool) -> None:
    seen = picture(chatmodel(replicas=0), GOOD, selected=GOOD if ever_served else None)
    assert words(seen, rollout.Plan(Reason.Stopped, "stopped", cast(seen, GOOD))) == {
        "Ready": ("False", "Stopped"),
        "Available": ("False", "Stopped"),
        "Progressing": ("False", "Stopped"),
    }


def test_what_is_stopped_is_not_degraded_whatever_failed_before() -> None:
    seen = picture(chatmodel(mode="qwen", replicas=0), GOOD, BAD, selected=GOOD)
    said = words(seen, rollout.Plan(Reason.Stopped, "stopped", cast(seen, BAD)))
    assert list(said) == ["Ready", "Available", "Progressing"]


def test_before_anything_is_known_readiness_is_unknown() -> None:
    plan = rollout.Plan(Reason.Pending, "a new revision is recorded")
    assert words(picture(chatmodel()), plan) == {
        "Ready": ("Unknown", "Pending"),
        "Available": ("False", "NothingServes"),
        "Progressing": ("True", "Pending"),
    }


def test_a_spec_that_is_not_understood_leaves_what_serves_available() -> None:
    seen = picture(chatmodel(mode="gpt"), GOOD, selected=GOOD, pods=ready_pods(GOOD, 1))
    plan = rollout.Plan(Reason.InvalidSpec, "spec.mode: ?", is_stalled=True, is_idle=True)
    assert words(seen, plan) == {
        "Ready": ("False", "InvalidSpec"),
        "Available": ("True", "Serving"),
        "Progressing": ("False", "InvalidSpec"),
        "Stalled": ("True", "InvalidSpec"),
    }


def test_abnormal_conditions_come_and_go() -> None:
    seen, plan = serves(ready=0)
    before = list(build(seen, plan).values())
    assert "Degraded" in {c["type"] for c in before}
    seen, plan = serves(status={"conditions": before})
    assert list(build(seen, plan, later=60)) == ["Ready", "Available", "Progressing"]


def test_the_time_moves_with_the_status_alone() -> None:
    seen, plan = serves(ready=0)
    first = build(seen, plan)
    seen, plan = serves(ready=0, status={"conditions": list(first.values())}, at_generation=2)
    other = rollout.Plan(Reason.Unschedulable, "0/3 nodes", plan.cast)
    second = build(seen, other, later=60)
    assert second["Ready"]["reason"] == "Unschedulable"
    assert second["Ready"]["observedGeneration"] == 2
    assert {c["lastTransitionTime"] for c in second.values()} == {at(0)}
    seen, plan = serves(status={"conditions": list(second.values())})
    third = build(seen, plan, later=120)
    assert {c["lastTransitionTime"] for c in third.values()} == {at(120)}


def test_nothing_changes_while_nothing_changes() -> None:
    seen, plan = serves()
    first = list(build(seen, plan).values())
    seen, plan = serves(status={"conditions": first})
    assert list(build(seen, plan, later=3600).values()) == first


def test_a_foreign_condition_is_not_kept() -> None:
    foreign = build(*serves())["Ready"] | {"type": "Foreign"}
    seen, plan = serves(status={"conditions": [foreign]})
    assert "Foreign" not in build(seen, plan)


def test_a_long_message_is_cut_and_still_fits_the_schema() -> None:
    seen, _ = serves()
    plan = rollout.Plan(Reason.Unschedulable, "x" * 9000, cast(seen, GOOD))
    said = list(build(seen, plan).values())
    assert {len(c["message"]) for c in said if c["type"] != "Available"} == {1024}
    ChatModelStatus.model_validate({"conditions": said})
