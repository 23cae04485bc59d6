"""What the API server has said so far: raw objects by kind, namespace and name.

Fed by `watches` (listings and events) and `cluster` (its own writes and live reads), read by
`cluster`. Pure: it knows no kopf, no HTTP and no clock. It says when it is not to be trusted; what
must not be done on an old picture is guarded by preconditions, not by this module.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from chatmodel_operator import names

Object = dict[str, Any]
Key = tuple[str, str]  # namespace and name
Value = TypeVar("Value")
Ref = tuple[str, str, str]  # kind, namespace ("" without one), name

LATE_SECONDS = 10.0  # after which a watch that has not shown our own write is called stalled
REMEMBERED = 20_000  # uids of deleted objects
FOR_GOOD = 2**63


class Stored(dict[str, Any]):
    """A kept object. It never changes, so that what was read out of it can stay with it."""

    __slots__ = ("parsed",)

    def __init__(self, body: Object) -> None:
        super().__init__(body)
        self.parsed: Any = None


def once(read: Callable[[Mapping[str, Any]], Value]) -> Callable[[Mapping[str, Any]], Value]:
    """Read a kept object once: nothing takes longer in a pass than reading it all again."""

    @functools.wraps(read)
    def read_once(raw: Mapping[str, Any]) -> Value:
        if not isinstance(raw, Stored):
            return read(raw)
        if raw.parsed is None:
            raw.parsed = (read(raw),)
        return cast(Value, raw.parsed[0])

    return read_once


@dataclasses.dataclass(frozen=True)
class _Awaited:
    """A write of ours whose event has not come yet."""

    version: int
    since: float


class Cache:
    """A copy of the watched objects."""

    def __init__(self, kinds: Iterable[str]) -> None:
        self.kinds = tuple(kinds)
        self._objects: dict[str, dict[Key, Object]] = {kind: {} for kind in self.kinds}
        self._owned: dict[tuple[str, Key], dict[str, Object]] = {}
        self._floors: dict[tuple[str, str], int] = {}  # the newest listing of (kind, namespace)
        self._suspects: dict[tuple[str, str], int] = {}  # a listing older than the one before
        self._open: set[tuple[str, str]] = set()  # (kind, namespace) with a watch under way
        self._gone: dict[str, int] = {}  # uid → the version that ended it, FOR_GOOD when unknown
        self._awaited: dict[Ref, _Awaited] = {}
        self._doubted: set[Key] = set()

    # What is known

    def get(self, kind: str, namespace: str, name: str) -> Object | None:
        """Return an object, or None."""
        return self._objects[kind].get((namespace, name))

    def children(self, kind: str, key: Key) -> list[Object]:
        """Return the objects of a kind that bear a ChatModel's label."""
        return list(self._owned.get((kind, key), {}).values())

    def all_of(self, kind: str) -> list[Object]:
        """Return every object of a kind."""
        return list(self._objects[kind].values())

    def keys(self) -> list[Key]:
        """Return every ChatModel's key."""
        return list(self._objects["ChatModel"])

    # Whether that is enough

    def is_filled(self, namespaces: Iterable[str | None]) -> bool:
        """Say whether every kind is watched in these namespaces; None means all of them."""
        return all(self._is_watched(kind, n or "") for n in namespaces for kind in self.kinds)

    def is_trusted(self, key: Key, now: float) -> bool:
        """Say whether a pass over a ChatModel may be decided on what is known here."""
        return (
            key not in self._doubted
            and all(self._is_watched(kind, key[0]) for kind in self.kinds)
            and not any(self._owner_of(ref) == key for ref in self._late(now))
        )

    def doubt(self, key: Key) -> None:
        """Have the next pass over a ChatModel read live: a write of ours went wrong."""
        self._doubted.add(key)

    def trust(self, key: Key) -> None:
        """End the doubt: everything of the ChatModel has been read live."""
        self._doubted.discard(key)

    def stalled_kinds(self, now: float) -> set[str]:
        """Return the kinds whose watch owes us the event of our own write for too long."""
        return {ref[0] for ref in self._late(now)}

    # What happens

    def open(self, kind: str, namespace: str | None) -> None:
        """Note that events come from now on."""
        self._open.add((kind, namespace or ""))

    def close(self, kind: str, namespace: str | None) -> None:
        """Note that no events come: what is known may be old."""
        self._open.discard((kind, namespace or ""))

    def see(self, kind: str, body: Object, *, is_deleted: bool = False) -> bool:
        """Take an event of a watch; return whether it says anything that was not known."""
        ref, version = _ref_of(kind, body), version_of(body)
        awaited = self._awaited.get(ref)
        if awaited is not None and awaited.version <= version:
            del self._awaited[ref]
        if is_deleted:
            self.bury(ref, body["metadata"]["uid"], version)
            return True
        return self.put(kind, body)

    def put(self, kind: str, body: Object, *, is_live: bool = False) -> bool:
        """Keep an object unless a newer state of it is known; return whether it was kept.

        What no listing had and is older than the listing is gone; `is_live` is for a body that
        has just been read and therefore exists.
        """
        ref, version = _ref_of(kind, body), version_of(body)
        known = self.get(*ref)
        # NB: a watch with a label selector also calls deleted what has lost its label; with the
        # label it comes back under its uid, at a later version.
        if version <= self._gone.get(body["metadata"]["uid"], 0):
            return False
        if known is None:
            if not is_live and version <= self._floor(kind, ref[1]):
                return False
        elif version < version_of(known) or (version == version_of(known) and not is_live):
            return False
        kept = _without_the_unread(kind, body)
        if kept == known:  # another CRD shows another part of an object at the same version
            return False
        self._drop(ref)
        self._objects[kind][ref[1:]] = kept
        if (owner := owner_of(kind, kept)) is not None:
            self._owned.setdefault((kind, owner), {})[ref[2]] = kept
        return True

    def put_own(self, kind: str, body: Object, now: float) -> None:
        """Keep what the API server answered to our own write; its event will follow."""
        if self.put(kind, body, is_live=True):
            self._awaited[_ref_of(kind, body)] = _Awaited(version_of(body), now)

    def bury(self, ref: Ref, uid: str, version: int = 0) -> None:
        """Forget a deleted object for good; one of the same name that came later stays."""
        self._gone[uid] = version or FOR_GOOD
        if len(self._gone) > REMEMBERED:
            del self._gone[next(iter(self._gone))]
        known = self.get(*ref)
        if known is None:
            return
        if known["metadata"]["uid"] == uid or version_of(known) < version:
            self._drop(ref)
            self._awaited.pop(ref, None)

    def replace(
        self, kind: str, namespace: str | None, items: Iterable[Object], version: int
    ) -> set[Key]:
        """Take a whole listing: what it lacks is gone. Return the ChatModels that it changed.

        A listing older than the one before is not believed, and what is known is not trusted
        either until the next one; a second older one means that the server was set back.
        """
        scope = (kind, namespace or "")
        if version < max(self._floors.get(scope, 0), self._suspects.get(scope, 0)):
            if scope not in self._suspects:
                self._suspects[scope] = self._floors.pop(scope)
                return set()
            self._clear(kind, namespace)
        self._suspects.pop(scope, None)
        changed = self._merge(kind, items, self._in_scope(kind, namespace), version)
        self._floors[scope] = version
        for ref in self._in_scope(kind, namespace):
            awaited = self._awaited.get(ref)
            if awaited is not None and awaited.version <= version:
                del self._awaited[ref]
        return changed

    def replace_children(self, kind: str, key: Key, items: Iterable[Object], version: int) -> None:
        """Take a live listing of one ChatModel's objects."""
        known = [(kind, key[0], name) for name in self._owned.get((kind, key), {})]
        self._merge(kind, items, known, version)

    # Within

    def _merge(
        self, kind: str, items: Iterable[Object], known: Iterable[Ref], version: int
    ) -> set[Key]:
        changed: set[Key | None] = set()
        listed: set[Ref] = set()
        for item in items:
            listed.add(_ref_of(kind, item))
            if self.put(kind, item, is_live=True):
                changed.add(owner_of(kind, item))
        for ref in set(known) - listed:
            # What is newer than the listing came after it.
            if version_of(self._objects[kind][ref[1:]]) <= version:
                changed.add(self._owner_of(ref))
                self._drop(ref)
        return {key for key in changed if key is not None}

    def _clear(self, kind: str, namespace: str | None) -> None:
        for ref in self._in_scope(kind, namespace):
            self._drop(ref)
            self._awaited.pop(ref, None)
        self._gone.clear()

    def _in_scope(self, kind: str, namespace: str | None) -> list[Ref]:
        return [(kind, *key) for key in self._objects[kind] if namespace in (None, key[0])]

    def _drop(self, ref: Ref) -> None:
        known = self._objects[ref[0]].pop(ref[1:], None)
        owner = owner_of(ref[0], known) if known is not None else None
        if owner is not None:
            owned = self._owned[ref[0], owner]
            del owned[ref[2]]
            if not owned:
                del self._owned[ref[0], owner]

    def _late(self, now: float) -> list[Ref]:
        return [ref for ref, a in self._awaited.items() if now - a.since > LATE_SECONDS]

    def _owner_of(self, ref: Ref) -> Key | None:
        known = self.get(*ref)
        return owner_of(ref[0], known) if known is not None else None

    def _is_watched(self, kind: str, namespace: str) -> bool:
        scopes = ((kind, ""), (kind, namespace))
        return any(scope in self._open and scope in self._floors for scope in scopes)

    def _floor(self, kind: str, namespace: str) -> int:
        return max(self._floors.get((kind, ""), 0), self._floors.get((kind, namespace), 0))


def version_of(body: Mapping[str, Any]) -> int:
    """Return an object's resourceVersion; within one kind they can be compared."""
    return int(body["metadata"]["resourceVersion"])


def owner_of(kind: str, body: Mapping[str, Any]) -> Key | None:
    """Return the ChatModel an object belongs to, or is."""
    meta = body["metadata"]
    if kind == "ChatModel":
        return meta["namespace"], meta["name"]
    name = (meta.get("labels") or {}).get(names.LABEL_CHATMODEL)
    if kind == "ChatModelRevision":  # it says so itself, also when its labels were taken away
        name = name or (body.get("spec") or {}).get("chatModelName")
    return (meta["namespace"], name) if name and "namespace" in meta else None


def _ref_of(kind: str, body: Mapping[str, Any]) -> Ref:
    meta = body["metadata"]
    return kind, meta.get("namespace", ""), meta["name"]


def _without_the_unread(kind: str, body: Object) -> Stored:
    """Return the object without what takes most room and nobody here reads."""
    meta = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    kept = Stored(body | {"metadata": meta})
    if kind == "Pod":
        kept.pop("spec", None)
    return kept
