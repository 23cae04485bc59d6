import pytest
from pictures import (
    NOW,
    SETTINGS,
    Body,
    at,
    chatmodel,
    failed,
    make_revision,
    picture,
    raw_pod,
    ready_pods,
    serving,
)

from chatmodel_operator import rollout

GRACE = {"deletionTimestamp": at(600), "deletionGracePeriodSeconds": 615}


@pytest.mark.parametrize(
    ("status", "meta", "hastened"),
    [
        pytest.param(failed(), GRACE, True, id="a bad one must not hold its room"),
        pytest.param(failed(), {}, False, id="a pod that is not ending is the Deployment's"),
        pytest.param(
            failed(), GRACE | {"deletionGracePeriodSeconds": 10}, False, id="it was told already"
        ),
        pytest.param(
            {"verdict": "Pending", "startedAt": at(-60), "retiredAt": at(-5)},
            GRACE,
            True,
            id="a candidate that an edit abandoned",
        ),
        pytest.param(
            serving(since=-900) | {"servingAt": None, "retiredAt": at(-5)},
            GRACE,
            False,
            id="a good one finishes its answers",
        ),
    ],
)
def test_what_was_given_up_ends_soon(status: Body, meta: Body, hastened: bool) -> None:
    good = make_revision(status=serving())
    other = make_revision(2, status=status, mode="huggingface", model={"id": "org/other"})
    pods = [*ready_pods(good, 1), raw_pod(other, uid="uid-pod", **meta)]
    seen = picture(chatmodel(), good, other, selected=good, pods=pods)
    plan = rollout.plan_rollout(seen, SETTINGS, NOW)
    assert [pod.uid for pod in plan.hasten] == (["uid-pod"] if hastened else [])
