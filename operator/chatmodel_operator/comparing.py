"""Whether a live object is as a manifest has it; what the server added is ignored.

Used by `cluster` and `reconcile`. Pure. This is where passes spend their time.
"""

from collections.abc import Mapping
from typing import Any

from chatmodel_operator import quantities

# Lists of a pod that server-side apply merges item by item, and what tells their items apart:
# an admission policy, or an injector, may add items of its own.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
}


def is_applied(manifest: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    """Say whether a live object is as a manifest has it."""
    return _has_all(_body_of(manifest), live)


def is_part_of(wanted: Any, live: Any) -> bool:
    """Say whether everything in `wanted` is in `live` already."""
    if wanted is live or wanted == live:
        return True
    if isinstance(wanted, dict):
        return isinstance(live, dict) and _has_all(wanted, live)
    if isinstance(wanted, list):
        if not isinstance(live, list) or len(wanted) != len(live):
            return False
        return all(map(is_part_of, wanted, live))
    both_texts = isinstance(wanted, str) and isinstance(live, str)
    return both_texts and quantities.is_same(wanted, live)


def find_difference(manifest: Mapping[str, Any], live: Mapping[str, Any]) -> str:
    """Return the path of the first field that is not as a manifest has it; empty without one."""
    return _path(_body_of(manifest), live) or ""


def build_change(manifest: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the JSON merge patch that makes a live object as a manifest has it.

    None when a list differs: a merge patch would take away what others have put in.
    """
    return _change(_body_of(manifest), live)


def without_nulls(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest as an object: without the labels and annotations that must not be there."""
    meta = dict(manifest["metadata"])
    for part in ("labels", "annotations"):
        if part in meta:
            meta[part] = {key: value for key, value in meta[part].items() if value is not None}
    return {**manifest, "metadata": meta}


def build_merge(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7396) that makes `before` into `after`; lists go whole."""
    patch: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    for key, value in after.items():
        there = before.get(key)
        if isinstance(there, Mapping) and isinstance(value, Mapping):
            if inner := build_merge(there, value):
                patch[key] = inner
        elif key not in before or there != value:
            patch[key] = value
    return patch


def _body_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    # The items of a list do not say of what kind they are.
    return {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}


def _has_all(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    # A loop: a generator costs twice as much.
    for key, value in wanted.items():
        if key not in live:
            # The server leaves an empty list out ({} says something: emptyDir); None is an absence.
            if value is None or value == []:
                continue
            return False
        there = live[key]
        if key in MERGE_KEYS:
            value, there = _by_key(key, value), _by_key(key, there)
        if not is_part_of(value, there):
            return False
    return True


def _change(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> dict[str, Any] | None:
    change: dict[str, Any] = {}
    for key, value in wanted.items():
        if _has_all({key: value}, live):
            continue
        there = live.get(key)
        if isinstance(value, list):
            return None
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            value = _change(value, there)
            if value is None:
                return None
        change[key] = value
    return change


def _by_key(field: str, items: Any) -> Any:
    """Return a list whose items are told apart by a key as a mapping."""
    key = MERGE_KEYS[field]
    if not isinstance(items, list) or not all(isinstance(i, dict) and key in i for i in items):
        return items
    return {item[key]: item for item in items}


def _path(wanted: Any, live: Any) -> str | None:
    if is_part_of(wanted, live):
        return None
    pairs: list[tuple[Any, Any, Any]] = []
    if isinstance(wanted, dict) and isinstance(live, dict):
        pairs = [
            (key, _by_key(key, value), _by_key(key, live.get(key)))
            if key in MERGE_KEYS
            else (key, value, live.get(key))
            for key, value in wanted.items()
        ]
    elif isinstance(wanted, list) and isinstance(live, list) and len(wanted) == len(live):
        pairs = list(zip(range(len(wanted)), wanted, live, strict=True))
    for key, mine, theirs in pairs:
        if (path := _path(mine, theirs)) is not None:
            return f"{key}.{path}" if path else str(key)
    return ""
