"""The PersistentVolumeClaim with the staged models."""

from chatmodel_operator import names
from chatmodel_operator.desired.metadata import Manifest, build_metadata
from chatmodel_operator.observed import ChatModel


def build_claim(chatmodel: ChatModel, size: int) -> Manifest:
    """Return the claim; with reclaimPolicy Retain it has no owner, and outlives the ChatModel."""
    assert chatmodel.spec is not None
    cache = chatmodel.spec.cache
    metadata = build_metadata(chatmodel, names.models_claim(chatmodel.name))
    if cache.reclaim_policy == "Retain":
        metadata["ownerReferences"] = []
    spec: Manifest = {
        "accessModes": [cache.access_mode or "ReadWriteOnce"],
        "resources": {"requests": {"storage": str(size)}},
    }
    if cache.storage_class_name is not None:
        spec["storageClassName"] = cache.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata,
        "spec": spec,
    }
