"""A claim that one node at a time may mount, where there are two nodes: `make cluster-up NODES=2`.

Nothing but the operator keeps the pods together: the volume is a folder that both nodes have, and,
as with a network disk, it says of no node that it is there.
"""

import os
import pathlib
from collections.abc import Iterator

import models
import pytest
from caches import CLAIM, QWEN, SECONDS, SERVE, TWIN, Cached, is_ready, spec_of
from kube import Body, Kube, chatmodel, wait_for

REVISION = "carepath.ai/revision"


@pytest.fixture
def two_nodes(installed: Kube) -> Kube:
    if os.environ.get("CLUSTER", "embedded") != "embedded":
        pytest.skip("the nodes of another cluster share no folder")
    nodes = installed.get("nodes", "-l", "!type")["items"]
    if len(nodes) < 2:
        pytest.skip("the cluster has one real node: make cluster-up NODES=2")
    return installed


@pytest.fixture
def live(two_nodes: Kube, namespace: Kube, tmp_path: pathlib.Path) -> Iterator[Cached]:
    """The stand-in with a ReadWriteOnce claim on a volume that any node could mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    folder.chmod(0o777)
    name = namespace.namespace
    volume: Body = {
        "capacity": {"storage": "4Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": name,
        "hostPath": {"path": str(folder)},
    }
    meta = {"name": name}
    namespace.apply(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": volume}
    )
    cache = {"strategy": "Persistent", "storageClassName": name, "size": "4Gi"}
    namespace.apply(chatmodel("triage", **spec_of("Persistent") | {"cache": cache}))
    cached = Cached(namespace)
    namespace.wait_for_reason("triage", "Serving", SECONDS)
    yield cached
    namespace.run("delete", "chatmodels", "--all")
    namespace.run("delete", "pv", name, "--wait=false")


def nodes_of(kube: Kube) -> dict[str, set[str]]:
    """Return the nodes of all pods there are that mount the claim, by revision."""
    found: dict[str, set[str]] = {}
    for pod in kube.get("pods", "-l", f"carepath.ai/claim={CLAIM}")["items"]:
        node = pod["spec"].get("nodeName")
        if node is not None:
            found.setdefault(pod["metadata"]["labels"][REVISION], set()).add(node)
    return found


def test_all_pods_of_a_claim_run_on_one_node_through_a_rollout(live: Cached) -> None:
    kube = live.kube
    kube.run("scale", "chatmodel", "triage", "--replicas=3")
    wait_for(lambda: sum(map(is_ready, live.pods())) == 3, "three Ready pods", SECONDS)
    (home,) = {pod["spec"]["nodeName"] for pod in live.pods()}

    seen: dict[str, set[str]] = {}
    kube.patch("triage", TWIN)

    def is_over() -> bool:
        for revision, nodes in nodes_of(kube).items():
            seen.setdefault(revision, set()).update(nodes)
        status = live.status()
        return bool(status.get("serving", {}).get("modelID") == models.TWIN)

    wait_for(is_over, "the twin to serve", SECONDS)
    assert len(seen) == 2, "what stages and what serves, of both revisions"
    assert all(nodes == {home} for nodes in seen.values()), seen
    assert live.answer_of(models.TWIN)


def test_a_pod_that_its_node_takes_no_more_waits_and_says_so(live: Cached) -> None:
    kube = live.kube
    kube.run("scale", "chatmodel", "triage", "--replicas=2")
    wait_for(lambda: sum(map(is_ready, live.pods())) == 2, "two Ready pods", SECONDS)
    (home,) = {pod["spec"]["nodeName"] for pod in live.pods()}
    kube.run("cordon", home)
    try:
        lost = live.pods()[0]["metadata"]["name"]
        kube.run("delete", "pod", lost, "--wait=false")

        def waits() -> bool:
            pods = kube.get("pods", "-l", SERVE)["items"]
            return any("nodeName" not in pod["spec"] for pod in pods)

        wait_for(waits, "a pod without a node", SECONDS)
        assert live.answer()["model"] == models.QWEN
    finally:
        kube.run("uncordon", home)
    wait_for(lambda: sum(map(is_ready, live.pods())) == 2, "two Ready pods again", SECONDS)
    assert {pod["spec"]["nodeName"] for pod in live.pods()} == {home}
    live.serve(QWEN, models.QWEN)
