"""Claims whose volumes are made by hand: one that is lost, one that grows, one that cannot."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_nodes_story import good, serving_pods
from kube import Body, Kube, Refused, random_name, wait_for


@pytest.fixture
def volumes(cluster: Kube) -> Iterator[Callable[[], str]]:
    """Makes a volume of a class of its own, and returns the class; both go afterwards."""
    name = random_name("volume")
    made: list[str] = []

    def make() -> str:
        made.append(f"{name}-{len(made)}")
        spec = {
            "capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": name,
            "hostPath": {"path": "/nowhere"},
        }
        meta = {"name": made[-1]}
        cluster.apply(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": spec}
        )
        return name

    cluster.apply(storage_class(name, grows=True))
    yield make
    cluster.run("delete", "storageclass", name)
    for volume in made:
        lose(cluster, volume)


def storage_class(name: str, *, grows: bool) -> Body:
    head = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
    rest = {"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "Immediate"}
    return head | rest | {"allowVolumeExpansion": grows}


def lose(cluster: Kube, volume: str) -> None:
    """Delete a volume although a claim has it."""
    cluster.run("delete", "pv", volume, "--wait=false", "--ignore-not-found")
    try:
        cluster.run("patch", "pv", volume, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    except Refused as error:
        if "NotFound" not in str(error):
            raise


def persistent(name: str, storage: str) -> Body:
    cache = {"strategy": "Persistent", "storageClassName": storage, "size": "1Gi"}
    return good(name, cache=cache)


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
