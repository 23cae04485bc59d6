"""What the rules of `invariants` ask of a tiny world: what is wanted, what is good, what changes.

Worked out from stored bodies alone, apart from the operator's own rules of a rollout.
"""

from typing import Any

from tiny_cluster import Write
from tiny_world import CHATMODEL, Raw, World

from chatmodel_operator import reading


def spec(world: World) -> Raw:
    """Return the spec of the ChatModel as it is stored."""
    return dict(world.objects[CHATMODEL]["spec"])


def rollout(world: World) -> Raw:
    """Return the rules that spec has for rollouts."""
    return dict(spec(world).get("rollout") or {})


def wanted_replicas(world: World) -> int:
    """Return how many pods spec asks for."""
    return int(spec(world).get("replicas", 1))


def target(world: World) -> str | None:
    """Return the revision that spec asks for."""
    pinned = rollout(world).get("pinnedRevision")
    if pinned is not None:
        return str(pinned) if world.status_of(pinned).get("verdict") == "Verified" else None
    wanted = reading.read_chatmodel(world.objects[CHATMODEL])
    if wanted.spec is None:
        return None
    for name, body in world.revisions().items():
        found = reading.read_revision(body)
        if found is not None and found.spec.source == wanted.source:
            return name
    return None


def last_good(world: World, besides: str | None) -> str | None:
    """Return the revision that was verified last, besides one."""
    good = [
        (body["status"].get("verifiedAt") or "", body["spec"]["number"], name)
        for name, body in world.revisions().items()
        if body["status"].get("verdict") == "Verified" and name != besides
    ]
    return max(good)[2] if good else None


def stamps(world: World, name: str) -> dict[str, str]:
    """Return what a revision's Deployment says of it; empty without a Deployment."""
    body = world.objects.get(("Deployment", name), {"metadata": {}})
    return body["metadata"].get("labels") or {}


def change(before: World, write: Write, part: str = "verdict") -> tuple[Any, Any] | None:
    """Return what a write makes of a field of a revision's status, if it changes it."""
    if write.key[0] != "ChatModelRevision" or write.body is None:
        return None
    old = before.status_of(write.key[1]).get(part)
    new = write.body["status"].get(part)
    return (old, new) if old != new else None
