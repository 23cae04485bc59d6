"""Why a ChatModel stands where it stands: one CamelCase word and a sentence with numbers.

Called by `rollout`. Pure; decides nothing.
"""

import dataclasses

from chatmodel_operator import (
    capacity,
    failures,
    names,
    quantities,
    resolution,
    staging,
    standing,
    verdicts,
)
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.observed import Observed, Pod, Revision, parse_time
from chatmodel_operator.scene import Scene


@dataclasses.dataclass(frozen=True)
class Why:
    """A reason, a message, and whether this will not go on by itself."""

    reason: Reason
    message: str
    is_stalled: bool = False


def explain(scene: Scene) -> Why:
    """Return why the ChatModel stands where it stands."""
    cast = scene.cast
    wanted, target = cast.wanted, cast.target
    if cast.replicas == 0:
        return Why(Reason.Stopped, "spec.replicas is 0: nothing runs")
    if cast.is_held:
        text = f"revision {target.number} failed with {target.status.reason}"
        return Why(Reason.Held, f"{text}: {target.status.message}; it keeps the traffic", True)
    if target.is_failed:
        return _explain_failure(scene)
    assert wanted is not None
    if wanted is cast.serving:
        return _explain_serving(scene)
    if cast.is_swapping and cast.replicas == 1 and not wanted.is_answered:
        return _explain_swap(scene, wanted)
    if cast.is_paused:
        return Why(Reason.Paused, f"rollout.paused: revision {wanted.number} waits")
    return _explain_wait(scene, wanted) or _step(scene.observed, cast, wanted)


def _explain_wait(scene: Scene, wanted: Revision) -> Why | None:
    """Return what the candidate waits for, if it is somebody else's turn."""
    sign = verdicts.current_sign(scene)
    if sign is not None and capacity.unplaced_since(scene) is not None:
        if capacity.find_obstacle(scene) == "cache":
            text = f"{sign.message}; the serving revision's weights are only in its pod"
            return Why(Reason.SwapNeedsPersistentCache, text)
    if sign is not None:
        return Why(sign.reason, sign.message, sign.is_cured_outside)
    if wanted.spec.instance_class is None and scene.observed.class_problem:
        return Why(Reason.InstanceClassNotFound, scene.observed.class_problem)
    if wanted.is_embedded and wanted.spec.template is None:
        found = resolution.find_embedded(wanted.spec.source, scene.settings)
        if isinstance(found, resolution.Problem):
            return Why(found.reason, found.message, True)
    return None


def _explain_swap(scene: Scene, wanted: Revision) -> Why:
    sign = verdicts.current_sign(scene)
    what = f"revision {wanted.number}"
    if wanted.status.room_made_at is None:
        return Why(Reason.MakingRoom, f"{what}: the serving pods stop to make room for it")
    tail = f": {sign.message}" if sign is not None else ""
    return Why(Reason.MakingRoom, f"{what} starts in the room that was made{tail}")


def _step(observed: Observed, cast: standing.Standing, wanted: Revision) -> Why:
    """Return where a candidate is on its way, and with which numbers."""
    what = f"revision {wanted.number} ({wanted.spec.source.model_id or wanted.spec.source.mode})"
    if needs_inspection(cast):
        return Why(Reason.Inspecting, f"{what}: asking the hub what the model is")
    if staging.needs_staging(observed, cast):
        return Why(Reason.Staging, f"{what}: staging on the claim{_amount(wanted)}")
    pods, ready = observed.pods_of(wanted), len(observed.ready_pods(wanted))
    if any(is_staging(pod) for pod in pods):
        return Why(Reason.Downloading, f"{what}: downloading{_amount(wanted)}")
    if ready == 0:
        return Why(Reason.Starting, f"{what}: loading the model")
    if not wanted.is_answered:
        return Why(Reason.Verifying, f"{what}: waiting for a right answer to a real request")
    if ready < cast.replicas:
        return Why(Reason.Scaling, f"{what}: {ready} of {cast.replicas} pods are Ready")
    return Why(Reason.Switching, f"{what}: traffic is being moved")


def _amount(revision: Revision) -> str:
    done = revision.status.download
    if done is None:
        return ""
    return f", {done.percent} % of {quantities.format_bytes(done.total_bytes)}"


def _explain_serving(scene: Scene) -> Why:
    cast, target = scene.cast, scene.cast.target
    what = f"revision {target.number} ({target.spec.source.model_id or target.spec.source.mode})"
    if cast.is_baking and cast.is_paused:
        return Why(Reason.Paused, f"{what} has the traffic; rollout.paused: the bake does not end")
    if cast.is_baking:
        end = verdicts.bake_end(scene)
        left = max(0, int((end - scene.now).total_seconds())) if end else 0
        # Tens of seconds: a message that changed every second would be a write every second.
        return Why(
            Reason.Baking, f"{what} has the traffic; watched for {-(-left // 10) * 10} s more"
        )
    ready = len(scene.observed.ready_pods(target))
    if ready:
        reason = Reason.Pinned if cast.is_pinned else Reason.Serving
        return Why(reason, f"{what} serves with {ready} of {cast.replicas} pods Ready")
    started = parse_time(target.status.started_at)
    sign = failures.find_sign(scene.observed, target, started) if started else None
    if sign is not None:
        return Why(sign.reason, f"{what} has no Ready pod: {sign.message}")
    return Why(Reason.Starting, f"{what} has no Ready pod of {cast.replicas}")


def _explain_failure(scene: Scene) -> Why:
    cast, target = scene.cast, scene.cast.target
    why = f"{target.status.reason}: {target.status.message}"
    failed = f"revision {target.number} failed with {why}"
    if cast.wanted is None:
        return Why(
            Reason.NoPreviousRevision, f"{failed}; there is no good revision to go back to", True
        )
    good = f"revision {cast.wanted.number}"
    if scene.observed.ready_pods(cast.wanted) and cast.wanted is cast.serving:
        return Why(Reason.RolledBack, f"{failed}; {good} serves", True)
    started = parse_time(cast.wanted.status.started_at)
    sign = failures.find_sign(scene.observed, cast.wanted, started) if started else None
    if sign is not None and sign.is_bad:
        text = f"{failed}; {good} does not come back: {sign.reason}: {sign.message}"
        return Why(Reason.RollbackFailed, text, True)
    return Why(Reason.RollingBack, f"{failed}; going back to {good}")


def needs_inspection(cast: standing.Standing) -> bool:
    wanted = cast.wanted
    return (
        wanted is not None
        and wanted.is_open
        and not wanted.is_mock
        and not wanted.is_embedded
        and not (cast.is_paused and wanted is cast.target)
        and wanted.spec.instance_class is not None
        and wanted.spec.inspection is None
        and wanted.spec.template is None
        and cast.replicas > 0
    )


def is_staging(pod: Pod) -> bool:
    return any(c.name == names.CONTAINER_STAGE and c.is_running for c in pod.containers)
