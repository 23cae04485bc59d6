"""`spec.cache` of a ChatModel: where staged weights are kept, and what of it may change.

Used by `chatmodel`; a revision records the strategy it was created with.
"""

from typing import Literal

import pydantic

from chatmodel_operator.api.fields import OBJECT_NAME, Body, cel

CacheStrategy = Literal["Ephemeral", "Persistent", "Embedded"]

_CLAIM_FIELDS = ("size", "storageClassName", "accessMode", "reclaimPolicy")
_BOTH_PERSISTENT = "self.strategy != 'Persistent' || oldSelf.strategy != 'Persistent'"


class Cache(Body):
    """Where staged weights are kept."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=cel(
            (
                "self.strategy == 'Persistent' || !("
                + " || ".join(f"has(self.{name})" for name in _CLAIM_FIELDS)
                + ")",
                "size, storageClassName, accessMode and reclaimPolicy are for strategy Persistent",
            ),
            *(
                (
                    f"{_BOTH_PERSISTENT} || (has(self.{name}) == has(oldSelf.{name})"
                    f" && (!has(self.{name}) || self.{name} == oldSelf.{name}))",
                    f"{name} is immutable while the strategy is Persistent",
                )
                for name in ("storageClassName", "accessMode")
            ),
            (
                f"{_BOTH_PERSISTENT} || !has(oldSelf.size) || (has(self.size)"
                " && quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0)",
                "size can grow, not shrink",
            ),
        )
    )

    strategy: CacheStrategy = pydantic.Field(
        default="Ephemeral",
        description=(
            "Ephemeral: each pod downloads into its own volume. Persistent: one Job downloads into"
            " a PersistentVolumeClaim that the pods read. Embedded: the model is inside a runtime"
            " image the administrator named. Default: Ephemeral."
        ),
    )
    size: str | None = pydantic.Field(
        default=None,
        max_length=20,
        pattern=r"^[1-9][0-9]*(Mi|Gi|Ti)$",
        description="Size of the claim; it may grow. Default: three copies of the first model.",
    )
    storage_class_name: str | None = pydantic.Field(
        default=None,
        min_length=1,
        max_length=253,
        pattern=OBJECT_NAME,
        description="StorageClass of the claim. Default: the cluster's default class.",
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] | None = pydantic.Field(
        default=None,
        description=(
            "ReadWriteOnce keeps all pods on one node; ReadWriteMany needs a StorageClass that"
            " shares volumes between nodes. Default: ReadWriteOnce."
        ),
    )
    reclaim_policy: Literal["Delete", "Retain"] | None = pydantic.Field(
        default=None,
        description=(
            "What becomes of the claim with the ChatModel: Delete, or Retain for a later ChatModel"
            " of the same name. Default: Delete."
        ),
    )
