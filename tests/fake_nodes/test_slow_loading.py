"""A model that comes slowly: given time as long as it moves, given up when it stands still."""

import datetime
from typing import Any

import pytest
from fake_nodes_story import candidate_pod, good, show
from kube import Body, Kube, wait_for
from oracles import find_complaints

DEADLINE = 10


def moments(kube: Kube, revision: str) -> Body:
    """Return the times of a revision's status; its first attempt begins with it."""
    found = kube.get("chatmodelrevision", revision)
    times = {"startedAt": found["metadata"]["creationTimestamp"], **found["status"]}
    return {k: datetime.datetime.fromisoformat(v) for k, v in times.items() if k.endswith("At")}


def seconds_since(moment: datetime.datetime) -> float:
    now = datetime.datetime.now(datetime.UTC)  # noqa: TID251 - the cluster's clock is this one
    return (now - moment).total_seconds()


@pytest.mark.fault("W6")
def test_a_slow_model_has_its_time_while_it_moves_and_not_when_it_stands_still(
    operator: Any,
) -> None:
    with operator() as run:
        kube: Kube = run.kube
        kube.apply(good("slow"))
        kube.wait_for_reason("slow", "Serving", 120)
        patience = {"bakeSeconds": 1, "progressDeadlineSeconds": DEADLINE}
        kube.patch("slow", {"model": {"id": "demo/never-ready"}, "rollout": patience})
        pod = candidate_pod(kube, "slow")
        target = kube.get("chatmodel", "slow")["status"]["target"]["revision"]
        start = kube.get("pod", pod)["status"]["startTime"]
        fetching = {"state": {"running": {"startedAt": start}}, "ready": False}
        show(kube, pod, state={"waiting": {"reason": "PodInitializing"}}, init=fetching)
        began, before = moments(kube, target)["startedAt"], len(run.writes())
        for percent in (10, 20, 30, 40):
            kube.run("annotate", "--overwrite", "pod", pod, f"test/percent={percent}")
            wait_for(lambda said=f"{percent} %": said in message(kube), f"{percent} %", DEADLINE)
            moved = moments(kube, target)["progressAt"]
            wait_for(lambda since=moved: seconds_since(since) > 5, "most of the deadline")
        assert seconds_since(began) > 1.5 * DEADLINE
        assert "failedAt" not in moments(kube, target)
        assert kube.ready("slow")["reason"] == "Downloading"
        assert len(run.writes()) - before < 4 * 4
        ready = kube.wait_for_reason("slow", "RolledBack", 2 * DEADLINE)
        assert f"ProgressDeadlineExceeded: no progress within {DEADLINE} s" in ready["message"]
        times = moments(kube, target)
        assert DEADLINE <= (times["failedAt"] - moved).total_seconds() < 2 * DEADLINE
        assert kube.get("chatmodel", "slow")["status"]["serving"]["number"] == 1
        assert find_complaints(run.log()) == []


def message(kube: Kube) -> str:
    return str(kube.ready("slow").get("message"))
