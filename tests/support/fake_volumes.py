"""Volumes that no provisioner makes, and ChatModels that keep their weights on one."""

from typing import Any

from fake_nodes_story import good
from kube import Body, Kube, Refused


def storage_class(name: str, *, grows: bool) -> Body:
    """Return a class whose volumes are made by hand."""
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


def persistent(name: str, storage: str, **cache: Any) -> Body:
    """Return a good ChatModel with a claim of a class."""
    where = {"strategy": "Persistent", "storageClassName": storage, "size": "1Gi"}
    return good(name, cache=where | cache)
