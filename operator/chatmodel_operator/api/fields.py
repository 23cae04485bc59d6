"""Building blocks shared by the three kinds: the base type, CEL rules and common field types.

Used by the modules of `api` only. Knows nothing of clusters.
"""

from typing import Annotated, Any

import pydantic
from pydantic.alias_generators import to_camel

GROUP = "carepath.ai"
VERSION = "v1alpha1"
# A DNS-1123 subdomain, as Kubernetes names most objects.
OBJECT_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


class Body(pydantic.BaseModel):
    """A part of a resource. Unknown fields are ignored: a newer schema may have written them."""

    model_config = pydantic.ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )

    def dump(self) -> dict[str, Any]:
        """Return the JSON form with camelCase names and without unset optional fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def cel(*rules: tuple[str, str]) -> dict[str, Any]:
    """Return schema extras that make the API server check `(rule, message)` pairs."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": text} for rule, text in rules]}


IMMUTABLE = cel(("self == oldSelf", "is immutable"))
# A field with this rule goes from absent to a value once; the parent forbids its removal.
# Written whole, by one writer: the API server need not keep, and read at every write, who owns each
# of its leaves.
ATOMIC: dict[str, Any] = {"x-kubernetes-map-type": "atomic"}
# Of a copy whose original was checked, and which is set once: rules are run at every write.
NO_RULES = cel()
FREE_FORM: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}

Timestamp = Annotated[str, pydantic.Field(json_schema_extra={"format": "date-time"})]
