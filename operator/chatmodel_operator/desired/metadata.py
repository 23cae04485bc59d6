"""The metadata every child has: labels, and the ChatModel as its controller."""

from typing import Any

from chatmodel_operator import names
from chatmodel_operator.api.chatmodel import KIND
from chatmodel_operator.api.fields import GROUP, VERSION
from chatmodel_operator.observed import ChatModel

Manifest = dict[str, Any]


def build_metadata(
    chatmodel: ChatModel, name: str, revision: str | None = None, role: str | None = None
) -> Manifest:
    """Return name, namespace, labels and the owner reference of a child."""
    return {
        "name": name,
        "namespace": chatmodel.namespace,
        "labels": names.child_labels(chatmodel.name, revision, role),
        "ownerReferences": [
            {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": KIND,
                "name": chatmodel.name,
                "uid": chatmodel.uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }
