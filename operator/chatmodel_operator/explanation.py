"""Why a ChatModel stands where it stands: one CamelCase word and a sentence with numbers.

Called by `rollout`. Pure; decides nothing.
"""

import dataclasses

from chatmodel_operator import failures, names, standing, verdicts
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.observed import Observed, Pod, Revision, parse_time


@dataclasses.dataclass(frozen=True)
class Why:
    """A reason, a message, and whether this will not go on by itself."""

    reason: Reason
    message: str
    is_stalled: bool = False


def explain(scene: verdicts.Scene) -> Why:
    """Return why the ChatModel stands where it stands."""
    cast = scene.cast
    wanted, target = cast.wanted, cast.target
    if cast.replicas == 0:
        return Why(Reason.Stopped, "spec.replicas is 0: nothing runs")
    if target.is_failed:
        return _explain_failure(scene)
    assert wanted is not None
    if wanted is cast.serving:
        return _explain_serving(scene)
    sign = verdicts.current_sign(scene)
    if sign is not None:
        return Why(sign.reason, sign.message, sign.is_cured_outside)
    if wanted.spec.instance_class is None and scene.observed.class_problem:
        return Why(Reason.InstanceClassNotFound, scene.observed.class_problem)
    return _step(scene.observed, cast, wanted)


def _step(observed: Observed, cast: standing.Standing, wanted: Revision) -> Why:
    """Return where a candidate is on its way, and with which numbers."""
    what = f"revision {wanted.number} ({wanted.spec.source.model_id or wanted.spec.source.mode})"
    if needs_inspection(cast):
        return Why(Reason.Inspecting, f"{what}: asking the hub what the model is")
    pods, ready = observed.pods_of(wanted), len(observed.ready_pods(wanted))
    if any(is_staging(pod) for pod in pods):
        done = wanted.status.download
        amount = f", {done.percent} % of {done.total_bytes} bytes" if done is not None else ""
        return Why(Reason.Downloading, f"{what}: downloading{amount}")
    if ready == 0:
        return Why(Reason.Starting, f"{what}: loading the model")
    if not wanted.is_answered:
        return Why(Reason.Verifying, f"{what}: waiting for a right answer to a real request")
    if ready < cast.replicas:
        return Why(Reason.Scaling, f"{what}: {ready} of {cast.replicas} pods are Ready")
    return Why(Reason.Switching, f"{what}: traffic is being moved")


def _explain_serving(scene: verdicts.Scene) -> Why:
    cast, target = scene.cast, scene.cast.target
    what = f"revision {target.number} ({target.spec.source.model_id or target.spec.source.mode})"
    if cast.is_baking:
        end = verdicts.bake_end(scene)
        left = max(0, int((end - scene.now).total_seconds())) if end else 0
        # Tens of seconds: a message that changed every second would be a write every second.
        return Why(
            Reason.Baking, f"{what} has the traffic; watched for {-(-left // 10) * 10} s more"
        )
    ready = len(scene.observed.ready_pods(target))
    if ready:
        return Why(Reason.Serving, f"{what} serves with {ready} of {cast.replicas} pods Ready")
    started = parse_time(target.status.started_at)
    sign = failures.find_sign(scene.observed, target, started) if started else None
    if sign is not None:
        return Why(sign.reason, f"{what} has no Ready pod: {sign.message}")
    return Why(Reason.Starting, f"{what} has no Ready pod of {cast.replicas}")


def _explain_failure(scene: verdicts.Scene) -> Why:
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
        and wanted.spec.instance_class is not None
        and wanted.spec.inspection is None
        and cast.replicas > 0
    )


def is_staging(pod: Pod) -> bool:
    return any(c.name == names.CONTAINER_STAGE and c.is_running for c in pod.containers)
