"""How many pods each revision gets, and when the serving ones make room for a candidate.

Called by `verdicts`, `explanation` and `rollout`. Pure. The scheduler is the judge: nothing here
does arithmetic on nodes (docs/design.md, section 4.2).
"""

import datetime
import re

from chatmodel_operator import staging
from chatmodel_operator.observed import Pod, Raw, Revision, parse_time
from chatmodel_operator.scene import Scene

_SHORT = re.compile(r"Insufficient ([-\w/]+(?:\.[-\w/]+)*)")


def plan_replicas(scene: Scene) -> dict[str, int]:
    """Return the wanted pods of each revision that has, or should have, a Deployment.

    The serving one gets all, a candidate one until it has answered and then all, one that is kept
    warm what it has, and the rest none.
    """
    observed = scene.observed
    wanted: dict[str, int] = {}
    for each in observed.revisions:
        deployment = observed.deployments.get(each.name)
        if each.spec.template is None:
            continue
        if deployment is None and (each.name not in scene.kept or not _may_appear(scene, each)):
            continue
        current = deployment.replicas if deployment is not None else 0
        wanted[each.name] = _replicas_of(scene, each, current)
    return wanted


def _may_appear(scene: Scene, revision: Revision) -> bool:
    """Say whether a first Deployment of a revision may be made now."""
    held = scene.cast.is_paused and revision is scene.cast.target
    return staging.is_staged(scene.observed, revision) and not held


def _replicas_of(scene: Scene, revision: Revision, current: int) -> int:
    cast = scene.cast
    if revision.name not in scene.kept:
        return 0
    if revision is cast.serving and revision.is_failed and not cast.is_held:
        return min(current, _for_serving(scene))  # what is left of it, until traffic has moved
    if revision is cast.serving:
        return _for_serving(scene)
    if revision.is_failed:
        return 0
    if revision is cast.wanted:
        return _for_candidate(scene, revision, current)
    if revision is scene.chosen:
        return cast.replicas
    return min(current, cast.replicas)  # kept warm


def _for_serving(scene: Scene) -> int:
    cast = scene.cast
    if cast.is_swapping:
        return _left_to_serving(scene)
    if cast.is_baking and _shared(scene):
        return cast.replicas - cast.replicas // 2  # the old ones keep their room until it is over
    return cast.replicas


def _left_to_serving(scene: Scene) -> int:
    """Return what a swap leaves to the serving revision: nothing, or half and one by one."""
    cast = scene.cast
    assert cast.wanted is not None
    if cast.replicas < 2 or _recreates(scene):
        return 0
    ready = len(scene.observed.ready_pods(cast.wanted))
    return max(cast.replicas - ready - 1, cast.replicas // 2)


def _for_candidate(scene: Scene, revision: Revision, current: int) -> int:
    cast, observed = scene.cast, scene.observed
    if cast.is_paused and revision is cast.target:
        return min(current, cast.replicas)
    if not staging.is_staged(observed, revision):
        return min(current, cast.replicas) if observed.ready_pods(revision) else 0
    if revision is not scene.chosen:  # that one serves, once traffic moves
        if find_need(scene) or (current == 0 and _is_serving_on_its_way(scene)):
            return 0
    if cast.is_swapping and cast.replicas > 1 and not _recreates(scene):
        ready = len(observed.ready_pods(revision))
        return min(ready + 1, cast.replicas - cast.replicas // 2)
    if _recreates(scene) and _has_pods(scene):
        # Nothing beside the serving pods, until they have stopped.
        return min(current, cast.replicas) if revision.is_answered else 0
    # One pod until it has answered: a bad model must not take the room of many.
    return cast.replicas if revision.is_answered else min(1, cast.replicas)


def find_need(scene: Scene) -> str:
    """Return why the serving revision needs the room of a candidate; empty when it does not.

    One of its pods finds no room, or a swap that was undone has not given all of it back.
    """
    cast = scene.cast
    if cast.serving is None or cast.serving is cast.wanted:
        return ""
    if cast.is_swapping or cast.serving.is_failed:
        return ""
    what = f"revision {cast.serving.number} serves and"
    ready = len(scene.observed.ready_pods(cast.serving))
    was_tried = cast.wanted is not None and cast.wanted.status.swap_started_at is not None
    can_recreate = not (ready or was_tried or _recreates(scene))
    hint = " (rollout.strategy: Recreate has the new one take its place)" if can_recreate else ""
    for pod in scene.observed.pods_of(cast.serving):
        if pod.unschedulable:
            return f"{what} needs room for its own pods first: {pod.unschedulable}{hint}"
    undone = cast.wanted is not None and cast.wanted.status.swap_undone_at is not None
    if undone and ready < cast.replicas:
        return f"{what} has {ready} of {cast.replicas} pods Ready since its room was given back"
    return ""


def _is_serving_on_its_way(scene: Scene) -> bool:
    """Say whether the scheduler has not yet seen all pods that the serving revision should have.

    As after `replicas: 0`: a candidate that asked at the same time could get the only room.
    """
    cast = scene.cast
    if cast.serving is None or cast.serving.is_failed or cast.is_swapping:
        return False
    deployment = scene.observed.deployments.get(cast.serving.name)
    if deployment is not None and deployment.refused:
        return False  # it may never get them
    placed = sum(pod.has_node for pod in scene.observed.pods_of(cast.serving))
    return placed < _replicas_of(scene, cast.serving, cast.replicas)


def _recreates(scene: Scene) -> bool:
    return scene.spec.rollout.strategy == "Recreate"


def _has_pods(scene: Scene) -> bool:
    """Say whether any pod of the serving revision is left, also one that is stopping."""
    serving = scene.cast.serving
    return serving is not None and any(p.revision == serving.name for p in scene.observed.pods)


def _shared(scene: Scene) -> bool:
    """Say whether the baking revision shares the room with warm pods of the old one."""
    cast = scene.cast
    assert cast.wanted is not None
    return (
        cast.replicas > 1
        and cast.wanted.status.swap_started_at is not None
        and cast.last_good is not None
        and cast.last_good.is_open
        and not _recreates(scene)
    )


def is_swap_due(scene: Scene) -> bool:
    """Say whether the serving pods should begin to make room for the wanted revision now.

    With strategy Recreate at once; else when the scheduler has found no room for long enough, and
    there is no obstacle. A swap is tried once.
    """
    cast = scene.cast
    wanted, serving = cast.wanted, cast.serving
    if wanted is None or serving is None or wanted is serving or not wanted.is_open:
        return False
    if wanted.spec.template is None or cast.replicas == 0 or cast.is_paused:
        return False
    if wanted.status.swap_started_at is not None:
        return False
    if not staging.is_staged(scene.observed, wanted):
        return False
    if _recreates(scene):
        return not scene.observed.ready_pods(wanted)
    since = unplaced_since(scene)
    if since is None or find_obstacle(scene) != "":
        return False
    return scene.now >= since + capacity_wait(scene)


def capacity_wait(scene: Scene) -> datetime.timedelta:
    """Return how long the scheduler must have found no room: no time if what serves is bad."""
    serving = scene.cast.serving
    if serving is not None and serving.is_failed:
        return datetime.timedelta()  # its room is wanted more than it is
    return datetime.timedelta(seconds=scene.spec.rollout.capacity_wait_seconds)


def unplaced_since(scene: Scene) -> datetime.datetime | None:
    """Return since when a pod of the wanted revision finds no room; None while it has some."""
    wanted = scene.cast.wanted
    if wanted is None:
        return None
    moments = [pod.unschedulable_since for pod in _unplaced(scene, wanted)]
    deployment = scene.observed.deployments.get(wanted.name)
    if deployment is not None and "exceeded quota" in deployment.refused:
        moments.append(deployment.refused_since)
    return min((m for m in moments if m is not None), default=None)


def _unplaced(scene: Scene, revision: Revision) -> list[Pod]:
    return [pod for pod in scene.observed.pods_of(revision) if pod.unschedulable]


def find_obstacle(scene: Scene) -> str:
    """Return why the serving pods' stopping would not help or is not wanted; empty when it would.

    `cache` is the obstacle an author can remove: the old weights would be gone with their pod.
    """
    cast = scene.cast
    wanted, serving = cast.wanted, cast.serving
    if wanted is None or serving is None or wanted.status.swap_undone_at is not None:
        return "done"
    if serving.is_failed:
        return ""  # nothing is lost by stopping it
    if scene.spec.rollout.strategy == "Surge":
        return "strategy"
    pods = _unplaced(scene, wanted)
    if any(pod.is_nominated for pod in pods):
        return "nominated"
    short = {name for pod in pods for name in _SHORT.findall(pod.unschedulable)}
    here, there = _pod_spec(wanted), _pod_spec(serving)
    if pods and (not short or not short <= _requested(there)):
        return "other"
    if any(here.get(key) != there.get(key) for key in ("nodeSelector", "runtimeClassName")):
        return "placement"
    if cast.replicas == 1 and not (serving.is_persistent or serving.is_embedded or serving.is_mock):
        return "cache"
    return ""


def _pod_spec(revision: Revision) -> Raw:
    return dict((revision.spec.template or {}).get("spec") or {})


def _requested(pod: Raw) -> set[str]:
    """Return the resources that the containers of a pod request."""
    return {
        name
        for container in pod.get("containers") or []
        for name in (container.get("resources") or {}).get("requests") or {}
    }


def is_room_made(scene: Scene) -> bool:
    """Say whether the serving pods of a swap have stopped, and that is not recorded yet."""
    cast = scene.cast
    if not cast.is_swapping or cast.wanted is None or cast.wanted.status.room_made_at is not None:
        return False
    return _left_to_serving(scene) == 0 and not _has_pods(scene)


def is_swap_in_vain(scene: Scene, deadline: datetime.datetime | None) -> bool:
    """Say whether a swap should be undone: no room after all, or its time is over."""
    cast = scene.cast
    if not cast.is_swapping or cast.wanted is None or cast.wanted.is_answered:
        return False
    if deadline is not None and scene.now >= deadline:
        return True
    made = parse_time(cast.wanted.status.room_made_at)
    if made is None or unplaced_since(scene) is None:
        return False
    return scene.now >= made + capacity_wait(scene)


def next_decision(scene: Scene) -> datetime.datetime | None:
    """Return when the scheduler has had its time, before or in a swap."""
    since = unplaced_since(scene)
    if since is None or scene.cast.wanted is None:
        return None
    made = parse_time(scene.cast.wanted.status.room_made_at)
    return (made if made is not None and scene.cast.is_swapping else since) + capacity_wait(scene)
