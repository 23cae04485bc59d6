"""What speaks against a revision while it has traffic and no verdict yet."""

import datetime

import pytest
from pictures import (
    NOW,
    Body,
    at,
    chatmodel,
    make_revision,
    picture,
    raw_container,
    raw_pod,
    terminated,
    waiting,
)

from chatmodel_operator import failures
from chatmodel_operator.api.reasons import Reason

SINCE = NOW - datetime.timedelta(seconds=60)
SERVING = make_revision(2, status={"startedAt": at(-120), "servingAt": at(-60)})
DISRUPTED = {"type": "DisruptionTarget", "status": "True"}


def pod(*, ready: bool = True, restarts: int = 0, **more: object) -> Body:
    made = {"created": -100, "ready": ready} | more
    last = made.pop("last", None)
    state = made.pop("state", None)
    container = raw_container(restarts=restarts, state=state, last=last)  # type: ignore[arg-type]
    return raw_pod(SERVING, containers=[container], **made)  # type: ignore[arg-type]


def bake_sign(raw: Body) -> failures.Sign | None:
    return failures.find_bake_sign(picture(chatmodel(), SERVING, pods=[raw]), SERVING, SINCE)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(
            pod(restarts=1, last=terminated(70)),
            Reason.CrashLooping,
            id="a single crash, Ready again by now",
        ),
        pytest.param(
            pod(restarts=1, last=terminated(137, reason="OOMKilled")),
            Reason.OOMKilled,
            id="a death for memory",
        ),
        pytest.param(pod(ready=False), Reason.ReadinessLost, id="a pod that was Ready and is not"),
        pytest.param(
            pod(ready=False, created=-30, state=waiting("InvalidImageName", "?")),
            Reason.InvalidImageName,
            id="a new pod that cannot start",
        ),
    ],
)
def test_a_sign_under_traffic_is_bad(raw: Body, reason: Reason) -> None:
    sign = bake_sign(raw)
    assert sign is not None
    assert (sign.reason, sign.is_bad) == (reason, True)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(pod(), id="a pod that is Ready"),
        pytest.param(
            pod(restarts=1, last=terminated(70, when=-61)), id="a crash before it had traffic"
        ),
        pytest.param(
            pod(restarts=1, last=terminated(75, "{}")), id="an end for the surroundings' sake"
        ),
        pytest.param(pod(ready=False, created=-30), id="a new pod that is not Ready yet"),
        pytest.param(pod(ready=False, conditions=[DISRUPTED]), id="a pod that was disrupted"),
        pytest.param(
            pod(restarts=1, last=terminated(137), conditions=[DISRUPTED]),
            id="a pod that was disrupted and killed",
        ),
        pytest.param(pod(ready=False, deletionTimestamp=at(-1)), id="a pod that is being deleted"),
    ],
)
def test_this_says_nothing_against_a_revision_under_traffic(raw: Body) -> None:
    assert bake_sign(raw) is None


def test_a_restart_after_a_clean_end_is_a_restart_too() -> None:
    sign = bake_sign(pod(restarts=1, last=terminated(0, reason="Completed")))
    assert sign is not None
    assert sign.is_bad


def test_a_pod_on_a_lost_node_says_nothing() -> None:
    # The node controller turns Ready and leaves what the kubelet last said of the containers.
    assert (
        bake_sign(pod(ready=False, conditions=[{"type": "ContainersReady", "status": "True"}]))
        is None
    )
