"""Classes with accelerators: the real scheduler places their pods on nodes that have some.

The accelerator is an extended resource that a node's status announces, as a device plugin's is.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fake_nodes_story import good, instance_class, serving_pods
from kube import Body, Kube, wait_for

GPU, GPU_CLASS = "nvidia.com/gpu", "gpu"
ON_GPU_NODES: Body = {
    "accelerator": {"resourceName": GPU, "memory": "16Gi"},
    "nodeSelector": {"accelerator": "t4"},
    "tolerations": [{"key": "fake", "operator": "Exists"}, {"key": GPU, "value": "present"}],
}


def announce(kube: Kube, node: str, count: int) -> None:
    """Have a node say how many accelerators it has."""
    has = {GPU: str(count)}
    body = json.dumps({"status": {"capacity": has, "allocatable": has}})
    kube.run("patch", "node", node, "--subresource=status", "--type=merge", "-p", body)


@pytest.fixture
def gpu_node(fake_cluster: Kube) -> Iterator[str]:
    """A fake node with one accelerator, labelled and tainted as such nodes are."""
    node = fake_cluster.get("nodes", "-l", "type=fake")["items"][-1]["metadata"]["name"]
    announce(fake_cluster, node, 1)
    fake_cluster.run("label", "node", node, "accelerator=t4")
    fake_cluster.run("taint", "node", node, f"{GPU}=present:NoSchedule")
    fake_cluster.apply(instance_class(GPU_CLASS, **ON_GPU_NODES))
    yield node
    fake_cluster.run("delete", "instanceclass", GPU_CLASS)
    fake_cluster.run("taint", "node", node, f"{GPU}-")
    fake_cluster.run("label", "node", node, "accelerator-")
    announce(fake_cluster, node, 0)


def spec_of_pod(kube: Kube, name: str) -> Body:
    (pod,) = serving_pods(kube, name)
    return dict(kube.get(pod)["spec"])


@pytest.mark.fault("W5")
def test_a_class_with_an_accelerator_finds_the_node_that_has_one(
    operator: Any, gpu_node: str
) -> None:
    with operator() as run:
        kube: Kube = run.kube
        kube.apply(good("first", instanceClassName=GPU_CLASS))
        kube.wait_for_reason("first", "Serving", 120)
        spec = spec_of_pod(kube, "first")
        assert spec["nodeName"] == gpu_node
        assert spec["containers"][0]["resources"]["limits"][GPU] == "1"
        # Fetching needs none, and would else wait for a card that serves.
        inspected = kube.get("pods", "-l", "carepath.ai/role=inspect")["items"]
        assert not any(GPU in json.dumps(p["spec"]["containers"]) for p in inspected)

        kube.apply(good("second", instanceClassName=GPU_CLASS))
        ready = kube.wait_for_reason("second", "Unschedulable", 120)
        assert f"Insufficient {GPU}" in ready["message"]
        announce(kube, gpu_node, 2)
        kube.wait_for_reason("second", "Serving", 120)
        assert spec_of_pod(kube, "second")["nodeName"] == gpu_node


@pytest.mark.fault("R10")
def test_started_again_the_only_card_is_for_what_served_and_not_for_the_candidate(
    operator: Any, gpu_node: str
) -> None:
    with operator() as run:
        kube: Kube = run.kube
        rollout = {"bakeSeconds": 1, "strategy": "Surge"}
        kube.apply(good("again", instanceClassName=GPU_CLASS, rollout=rollout))
        kube.wait_for_reason("again", "Serving", 120)
        kube.patch("again", {"model": {"id": "demo/good-2"}})
        for _ in range(5):
            kube.wait_for_reason("again", "Unschedulable", 120)
            kube.patch("again", {"replicas": 0})
            kube.wait_for_reason("again", "Stopped")
            wait_for(lambda: serving_pods(kube, "again") == [], "all pods to go")
            kube.patch("again", {"replicas": 1})
            wait_for(lambda: kube.get("chatmodel", "again")["status"]["pods"] == "1/1", "a pod")
            assert kube.get("chatmodel", "again")["status"]["serving"]["number"] == 1
        announce(kube, gpu_node, 2)
        kube.wait_for_reason("again", "Serving", 120)
        assert kube.get("chatmodel", "again")["status"]["serving"]["number"] == 2
