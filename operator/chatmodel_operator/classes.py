"""Which InstanceClass a new revision of a ChatModel gets. Pure.

Called by `reading`.
"""

from collections.abc import Mapping
from typing import Any

import pydantic

from chatmodel_operator import cache
from chatmodel_operator.api.instanceclass import DEFAULT_ANNOTATION, InstanceClassSpec

Raw = Mapping[str, Any]


def choose_class(wanted: str | None, classes: list[Raw]) -> tuple[InstanceClassSpec | None, str]:
    """Return the class a new revision gets, or why there is none; without a wish the default."""
    # Of several defaults the newest counts, as with StorageClasses.
    for item in sorted(
        classes, key=lambda c: c["metadata"].get("creationTimestamp", ""), reverse=True
    ):
        meta = item["metadata"]
        default = (meta.get("annotations") or {}).get(DEFAULT_ANNOTATION) == "true"
        if meta["name"] == wanted or (wanted is None and default):
            return _read_class(item)
    known = ", ".join(sorted(item["metadata"]["name"] for item in classes)) or "none"
    if wanted is None:
        return None, f"no InstanceClass is annotated as default; there are: {known}"
    return None, f"there is no InstanceClass {wanted}; there are: {known}"


@cache.once
def _read_class(raw: Raw) -> tuple[InstanceClassSpec | None, str]:
    try:
        return InstanceClassSpec.model_validate(raw.get("spec") or {}), ""
    except pydantic.ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        name = raw["metadata"]["name"]
        return None, f"InstanceClass {name} is not one this operator understands: {where}"
