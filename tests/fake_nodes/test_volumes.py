"""Claims whose volumes are made by hand: lost, on another node, one that grows, one that cannot."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from fake_nodes_story import candidate_pod, serving_pods, show
from fake_volumes import lose, persistent, storage_class
from kube import Kube, Refused, wait_for


@pytest.mark.fault("C2")
def test_a_lost_volume_is_named_and_a_new_claim_is_filled_again(
    operator: Any, volumes: Callable[[], str]
) -> None:
    with operator() as run:
        kube: Kube = run.kube
        kube.apply(persistent("lost", volumes()))
        kube.wait_for_reason("lost", "Serving", 120)
        bound = kube.get("pvc", "lost-models")["spec"]["volumeName"]
        lose(kube, bound)
        wait_for(lambda: kube.get("pvc", "lost-models")["status"]["phase"] == "Lost", "the loss")
        kube.patch("lost", {"model": {"id": "demo/good-2"}})
        ready = kube.wait_for_reason("lost", "VolumeLost")
        assert "claim lost-models" in ready["message"]
        assert kube.get("chatmodel", "lost")["status"]["serving"]["number"] == 1
        volumes()
        kube.run("delete", "pvc", "lost-models", "--wait=false")
        kube.run("delete", *serving_pods(kube, "lost"), "--wait=false")  # they hold the claim
        kube.wait_for_reason("lost", "Serving", 120)
        status = kube.get("chatmodel", "lost")["status"]
        assert status["serving"]["number"] == 2
        assert "lastFailure" not in status


MULTI_ATTACH = 'Multi-Attach error for volume "pv": it is attached to another node'


def post(kube: Kube, pod: str, reason: str, note: str) -> None:
    """Post an event about a pod, as the controller that attaches volumes does."""
    about = {"apiVersion": "v1", "kind": "Pod", "name": pod, "namespace": kube.namespace}
    made = kube.run("create", "configmap", pod, "-o", "jsonpath={.metadata.creationTimestamp}")
    kube.run("delete", "configmap", pod)
    event = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{pod}-{reason.lower()}"},
        "eventTime": made.replace("Z", ".000000Z"),
        "type": "Warning" if reason.startswith("Failed") else "Normal",
        "reason": reason,
        "note": note,
        "action": "Attach",
        "reportingController": "attachdetach-controller",
        "reportingInstance": "attachdetach-controller",
        "regarding": about | {"uid": kube.get("pod", pod)["metadata"]["uid"]},
    }
    kube.run("create", "-f", "-", text=json.dumps(event))


def set_phase(kube: Kube, pod: str, phase: str) -> None:
    body = json.dumps({"status": {"phase": phase}})
    kube.run("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", body)


@pytest.mark.fault("C3")
def test_a_volume_on_another_node_is_told_and_nobody_is_blamed_for_it(
    operator: Any, volumes: Callable[[], str]
) -> None:
    with operator() as run:
        kube: Kube = run.kube
        kube.apply(persistent("stuck", volumes()))
        kube.wait_for_reason("stuck", "Serving", 120)
        deadline = {"rollout": {"bakeSeconds": 1, "progressDeadlineSeconds": 60}}
        kube.patch("stuck", {"model": {"id": "demo/held-up"}, **deadline})
        pod = candidate_pod(kube, "stuck")
        nodes = {p["spec"]["nodeName"] for p in kube.get("pods")["items"]}
        assert len(nodes) == 1, "pods of a one-node claim are on different nodes"
        post(kube, pod, "FailedAttachVolume", MULTI_ATTACH)
        ready = kube.wait_for_reason("stuck", "WaitingForVolume", 50)
        assert MULTI_ATTACH in ready["message"]
        target = kube.get("chatmodel", "stuck")["status"]["target"]["revision"]
        before = kube.get("chatmodelrevision", target)["status"]["progressAt"]
        wait_for(lambda: progress_of(kube, target) != before, "the deadline to be moved", 60)
        status = kube.get("chatmodel", "stuck")["status"]
        assert (status["serving"]["number"], status["pods"]) == (1, "1/1")
        post(kube, pod, "SuccessfulAttachVolume", "attached")
        set_phase(kube, pod, "Running")
        start = kube.get("pod", pod)["status"]["startTime"]
        show(kube, pod, ready=True, state={"running": {"startedAt": start}})
        kube.wait_for_reason("stuck", "Serving")
        status = kube.get("chatmodel", "stuck")["status"]
        assert status["serving"]["number"] == 2
        assert "lastFailure" not in status


def progress_of(kube: Kube, revision: str) -> str:
    found: str = kube.get("chatmodelrevision", revision)["status"]["progressAt"]
    return found


@pytest.mark.fault("C10")
def test_a_claim_grows_where_its_class_lets_it(operator: Any, volumes: Callable[[], str]) -> None:
    with operator() as run:
        kube: Kube = run.kube
        storage = volumes()
        kube.apply(persistent("grows", storage))
        kube.wait_for_reason("grows", "Serving", 120)
        kube.patch("grows", {"cache": {"size": "2Gi"}})
        wait_for(lambda: requested(kube) == str(2 * 2**30), "the claim to ask for more")
        kube.wait_for_reason("grows", "Serving")
        with pytest.raises(Refused, match="size can grow, not shrink"):
            kube.patch("grows", {"cache": {"size": "1Gi"}})
        kube.apply(storage_class(storage, grows=False))
        kube.patch("grows", {"cache": {"size": "3Gi"}})
        ready = kube.wait_for_reason("grows", "InsufficientStorage")
        assert "only dynamically provisioned pvc can be resized" in ready["message"]
        assert kube.get("chatmodel", "grows")["status"]["pods"] == "1/1"


def requested(kube: Kube) -> str:
    found: str = kube.get("pvc", "grows-models")["spec"]["resources"]["requests"]["storage"]
    return found
