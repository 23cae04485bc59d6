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


def _body_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    # The items of a list do not say of what kind they are.
    return {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind")}


def _has_all(wanted: Mapping[str, Any], live: Mapping[str, Any]) -> bool:
    # A loop: a generator costs twice as much.
    for key, value in wanted.items():
        if key not in live:
            if value == []:  # the server leaves an empty list out; {} says something: emptyDir
                continue
            return False
        there = live[key]
        if key in MERGE_KEYS:
            value, there = _by_key(key, value), _by_key(key, there)
        if not is_part_of(value, there):
            return False
    return True


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
