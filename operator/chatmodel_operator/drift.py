"""Somebody else keeps changing what we wrote: it is put back five times in ten minutes, then said.

Used by `cluster`. The memory here only slows writes down: no decision hangs on it, and a new
process begins with none. Pure: time is an argument.
"""

import json
from collections.abc import Mapping
from typing import Any

from chatmodel_operator import names, quantities

WINDOW_SECONDS, MAX_REPAIRS = 600.0, 5
# Lists of a pod that server-side apply merges item by item, and what tells their items apart.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
}
Key = tuple[str, str]  # namespace and name of a ChatModel
Child = tuple[str, str]  # kind and name


class Repairs:
    """What was put back, by ChatModel and child; a repair is the same write once more."""

    def __init__(self) -> None:
        self._written: dict[Key, dict[Child, tuple[str, list[float]]]] = {}
        self._contested: dict[Key, dict[Child, str]] = {}

    def is_contested(
        self, manifest: Mapping[str, Any], live: Mapping[str, Any], now: float
    ) -> bool:
        """Say whether this write has been repeated too often to be repeated now."""
        key, child = _place_of(manifest)
        text, times = self._written.get(key, {}).get(child, ("", []))
        recent = [moment for moment in times if now - moment < WINDOW_SECONDS]
        if text != _text_of(manifest) or len(recent) < MAX_REPAIRS:
            self.agrees(manifest)
            return False
        body = {part: manifest[part] for part in manifest if part not in ("apiVersion", "kind")}
        self._contested.setdefault(key, {})[child] = (
            f"{child[0]} {child[1]}: {find_difference(body, live)} was put back {MAX_REPAIRS} times"
            f" within {WINDOW_SECONDS / 60:.0f} minutes and has been changed again"
        )
        return True

    def wrote(self, manifest: Mapping[str, Any], now: float) -> None:
        """Note a write of an object that was there."""
        key, child = _place_of(manifest)
        text, times = self._written.get(key, {}).get(child, ("", []))
        times = [*times[1 - MAX_REPAIRS :], now] if text == _text_of(manifest) else []
        self._written.setdefault(key, {})[child] = (_text_of(manifest), times)

    def agrees(self, manifest: Mapping[str, Any]) -> None:
        """Note that an object is as it should be, or will be after the next write."""
        key, child = _place_of(manifest)
        self._contested.get(key, {}).pop(child, None)

    def contested(self, namespace: str, name: str) -> str:
        """Return what somebody else keeps changing of a ChatModel; empty for nothing."""
        return "; ".join(self._contested.get((namespace, name), {}).values())

    def forget(self, namespace: str, name: str) -> None:
        """Forget a ChatModel that is gone."""
        self._written.pop((namespace, name), None)
        self._contested.pop((namespace, name), None)


def _place_of(manifest: Mapping[str, Any]) -> tuple[Key, Child]:
    meta = manifest["metadata"]
    owner = meta["labels"][names.LABEL_CHATMODEL]
    return (meta["namespace"], owner), (manifest["kind"], meta["name"])


def _text_of(manifest: Mapping[str, Any]) -> str:
    meta = {k: v for k, v in manifest["metadata"].items() if k not in ("uid", "resourceVersion")}
    return json.dumps({**manifest, "metadata": meta}, sort_keys=True)


def is_part_of(wanted: Any, live: Any) -> bool:
    """Say whether everything in `wanted` is in `live` already; what the server added is ignored."""
    return find_difference(wanted, live) is None


def find_difference(wanted: Any, live: Any) -> str | None:
    """Return the path of the first field of `wanted` that is not so in `live`; None without one."""
    if isinstance(wanted, Mapping):
        if not isinstance(live, Mapping):
            return ""
        pairs = [
            (key, _by_key(key, value), _by_key(key, live.get(key, _ABSENT)))
            for key, value in wanted.items()
        ]
        return _first_difference(pairs)
    if isinstance(wanted, list):
        if not isinstance(live, list) or len(wanted) != len(live):
            return ""
        return _first_difference(list(zip(range(len(wanted)), wanted, live, strict=True)))
    if isinstance(wanted, str) and isinstance(live, str):
        return None if wanted == live or quantities.is_same(wanted, live) else ""
    return None if wanted == live else ""


def _by_key(field: Any, items: Any) -> Any:
    """Return a list whose items are told apart by a key as a mapping: others may add to it."""
    key = MERGE_KEYS.get(field)
    if key is None or not isinstance(items, list):
        return items
    if not all(isinstance(item, Mapping) and key in item for item in items):
        return items
    return {item[key]: item for item in items}


def _first_difference(pairs: list[tuple[Any, Any, Any]]) -> str | None:
    for key, wanted, live in pairs:
        if (path := find_difference(wanted, live)) is not None:
            return f"{key}.{path}" if path else str(key)
    return None


_ABSENT = object()
