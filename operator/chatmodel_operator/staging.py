"""The claim with the staged models: what is on it, what has to get there, what it must hold.

Called by `capacity`, `verdicts`, `explanation` and `rollout`. Pure. Only for cache strategy
Persistent; the other strategies have nothing to stage beforehand.
"""

from chatmodel_operator import names, quantities
from chatmodel_operator.observed import Observed, Revision
from chatmodel_operator.scene import Scene
from chatmodel_operator.standing import Standing

SMALLEST_CLAIM = 1024**3
COPIES = 3


def needed_revisions(cast: Standing) -> tuple[Revision, ...]:
    """Return the revisions whose weights must stay on the claim."""
    found = (cast.wanted, cast.serving, cast.last_good)
    return tuple({r.name: r for r in found if r is not None and r.is_persistent}.values())


def is_staged(observed: Observed, revision: Revision) -> bool:
    """Say whether a revision's weights are complete where its pods look for them."""
    if not revision.is_persistent:
        return True
    staged, claim = revision.status.staged, observed.claim
    return staged is not None and claim is not None and staged.claim_uid == claim.uid


def needs_staging(observed: Observed, cast: Standing) -> bool:
    """Say whether the wanted revision waits for its weights to be put on the claim."""
    wanted = cast.wanted
    return (
        wanted is not None
        and wanted.is_open
        and wanted.spec.template is not None
        and cast.replicas > 0
        and not is_staged(observed, wanted)
    )


def to_stage(scene: Scene) -> Revision | None:
    """Return the revision whose stage Job should run now: one at a time, none while paused.

    A Job of another revision, or a pod of one, still writes: its end is waited for.
    """
    observed, cast = scene.observed, scene.cast
    claim = observed.claim
    if not needs_staging(observed, cast) or claim is None or claim.is_deleting:
        return None
    if (cast.is_paused and cast.wanted is cast.target) or lack(scene):
        return None
    assert cast.wanted is not None
    others = [
        pod
        for pod in observed.pods
        if pod.role == names.ROLE_STAGE
        and pod.revision != cast.wanted.name
        and not all(c.exit_code is not None for c in pod.containers)
    ]
    return None if others else cast.wanted


def folders(cast: Standing) -> list[str]:
    """Return the folders of staged models that must not be pruned."""
    return sorted(
        names.model_folder(str(r.spec.source.model_id), r.spec.commit, r.spec.source.quantization)
        for r in needed_revisions(cast)
        if r.spec.commit is not None
    )


def claim_bytes(scene: Scene) -> int | None:
    """Return the bytes to ask for; None when no claim is needed.

    Without a size in spec: three copies of the first model, and never less than what serving,
    candidate and last good revision need together. A claim never shrinks.
    """
    observed, cast = scene.observed, scene.cast
    persistent = [r for r in needed_revisions(cast) if r.spec.inspection is not None]
    if not persistent:
        return None
    there = observed.claim.requested_bytes if observed.claim is not None else 0
    if scene.spec.cache.size is not None:
        return max(quantities.parse_bytes(scene.spec.cache.size), there)
    needed = sum(_total(r) for r in persistent) * 11 // 10
    if there:
        return max(there, _whole_gib(needed))
    return max(SMALLEST_CLAIM, _whole_gib(COPIES * _total(persistent[0])))


def is_claim_spare(observed: Observed, cast: Standing) -> bool:
    """Say whether the claim has no use any more: no needed revision has its weights there."""
    if observed.claim is None or observed.claim.is_deleting or needed_revisions(cast):
        return False
    names_ = {r.name for r in observed.revisions if r.is_persistent}
    return not any(pod.revision in names_ for pod in observed.pods)


def lack(scene: Scene) -> str:
    """Return why what waits for staging has no room on the claim; empty when it has."""
    claim = scene.observed.claim
    if claim is None or not needs_staging(scene.observed, scene.cast):
        return ""
    room = claim.capacity_bytes or claim.requested_bytes
    needed = sum(_total(r) for r in needed_revisions(scene.cast))
    if needed <= room:
        return ""
    return (
        f"the models that must be kept take {quantities.format_bytes(needed)}, the claim has"
        f" {quantities.format_bytes(room)}"
    )


def _total(revision: Revision) -> int:
    found = revision.spec.inspection
    return found.total_bytes if found is not None else 0


def _whole_gib(count: int) -> int:
    return -(-count // SMALLEST_CLAIM) * SMALLEST_CLAIM
