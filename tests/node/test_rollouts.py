"""What a rollout does on a real node when the model is bad under traffic, or the node is full."""

import os

import pytest
from kube import Body, Kube, chatmodel, wait_for
from node_story import Service, losses

CLASS = "half-a-node"

# Its process is not the first of its namespace: the pause container's is.
END_SERVER = """
import os, pathlib
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    pid = int(path.parent.name)
    if pid != os.getpid() and b"chatmodel_runtime" in path.read_bytes():
        os.kill(pid, 15)
"""


def test_a_revision_that_loses_a_pod_under_traffic_is_left_without_a_lost_request(
    service: Service,
) -> None:
    kube = service.kube
    # With one pod its end would be an outage, until traffic has moved.
    kube.run("scale", "chatmodel", "triage", "--replicas=2")
    wait_for(lambda: kube.get("chatmodel", "triage")["status"]["pods"] == "2/2", "two pods")
    good = kube.get("chatmodel", "triage")["status"]["serving"]["revision"]
    kube.patch("triage", {"rollout": {"bakeSeconds": 60, "restartToken": "again"}})
    kube.wait_for_reason("triage", "Baking", 120)
    status = kube.get("chatmodel", "triage")["status"]
    assert status["rollbackRevision"] == good
    pods = kube.run("get", "pods", "-l", f"carepath.ai/revision={status['serving']['revision']}")
    name = pods.splitlines()[1].split()[0]
    # Its readiness falls first, and it answers for ten seconds more.
    kube.run("exec", name, "-c", "serve", "--", "python3", "-c", END_SERVER)
    kube.wait_for_reason("triage", "RolledBack", 30)
    status = kube.get("chatmodel", "triage")["status"]
    assert status["serving"]["revision"] == good
    assert status["lastFailure"]["reason"] in ("ReadinessLost", "CrashLooping")
    counted = service.stop()
    assert counted["failed"] == 0, losses(counted)


@pytest.fixture
def full_node(installed: Kube, namespace: Kube) -> Service:
    """A ChatModel whose second copy does not fit on the node beside the first."""
    installed.apply(_half_a_node(installed))
    rollout = {"bakeSeconds": 2, "capacityWaitSeconds": 2}
    cache = {"strategy": "Persistent"}
    namespace.apply(
        chatmodel("triage", mode="qwen", instanceClassName=CLASS, cache=cache, rollout=rollout)
    )
    namespace.wait_for_reason("triage", "Serving", 240)
    client = Service(namespace)
    client.start()
    return client


def _half_a_node(kube: Kube) -> Body:
    nodes = kube.get("nodes", "-l", "!type")["items"]
    cpus = max(int(node["status"]["allocatable"]["cpu"]) for node in nodes)
    return {
        "apiVersion": "carepath.ai/v1alpha1",
        "kind": "InstanceClass",
        "metadata": {"name": CLASS},
        "spec": {
            "resources": {
                "requests": {"cpu": f"{cpus * 550}m"},
                "limits": {"memory": "2Gi"},
            }
        },
    }


@pytest.mark.skipif(
    os.environ.get("CLUSTER", "embedded") != "embedded",
    reason="another cluster may have room for two on some node",
)
def test_on_a_full_node_the_old_one_makes_room_and_a_bad_one_gives_it_back(
    full_node: Service,
) -> None:
    kube = full_node.kube
    first = kube.get("chatmodel", "triage")["status"]["serving"]["revision"]
    kube.patch("triage", {"rollout": {"restartToken": "again"}})
    kube.wait_for_reason("triage", "MakingRoom", 240)
    kube.wait_for_reason("triage", "Serving", 240)
    status = kube.get("chatmodel", "triage")["status"]
    second = status["serving"]["revision"]
    assert second != first
    assert status["lastRollout"]["result"] == "Succeeded"
    assert 0 < status["lastRollout"]["outageSeconds"] < 60
    seen = full_node.stop()
    assert abs(seen["longestGapSeconds"] - status["lastRollout"]["outageSeconds"]) < 15
    assert set(seen["revisions"]) == {first, second}

    kube.patch("triage", {"mode": "huggingface", "model": {"id": "demo/wrong-shapes"}})
    ready = kube.wait_for_reason("triage", "RolledBack", 240)
    assert "ModelLoadFailed" in ready["message"]
    status = kube.get("chatmodel", "triage")["status"]
    assert status["serving"]["revision"] == second
    assert {c["type"]: c["status"] for c in status["conditions"]}["Available"] == "True"
    assert status["replicas"] == status["readyReplicas"] == 1
