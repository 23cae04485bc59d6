"""Rules that change a verdict: what is found bad, what has stood its bake, what is tried again.

Called by `records`, and by `explanation` for signs and deadlines. Pure.
"""

import datetime
from typing import Any

from chatmodel_operator import capacity, failures, resolution, staging
from chatmodel_operator.api.chatmodelrevision import FAILED, PENDING, VERIFIED
from chatmodel_operator.api.instanceclass import InstanceClassSpec
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.observed import Revision, parse_time
from chatmodel_operator.scene import SWAP, Record, Scene

# Without a deadline in the spec: starting takes up to ten minutes, bytes come at 5 MB/s or faster.
BASE_DEADLINE_SECONDS = 600
SLOWEST_BYTES_PER_SECOND = 5_000_000


def retry_a_failed_target(scene: Scene) -> Record | None:
    """Open a new attempt when carepath.ai/retry or the token is another than at the verdict."""
    target, value = scene.cast.target, scene.observed.chatmodel.retry
    is_asked = value is not None and value != target.status.retry
    is_other_token = scene.spec.model.token_secret_ref != target.status.token_secret_ref
    if not target.is_failed or not (is_asked or is_other_token):
        return None
    # What is on the claim is looked at again: it may be what was found bad.
    attempt = ("staged", "failedAt", "answeredAt", "servingAt", "retiredAt", "verification")
    cleared = dict.fromkeys(("reason", "message", *attempt, *SWAP))
    return Record(
        target,
        cleared
        | {"verdict": PENDING, "retry": value}
        | {"startedAt": scene.stamp, "progressAt": scene.stamp},
    )


def fail_a_bad_target(scene: Scene) -> Record | None:
    """Record Failed when pods or Jobs of an unfinished target speak against it."""
    target = scene.cast.target
    if not target.is_open or target.is_failed:
        return None
    sign = current_sign(scene)
    return _failed(scene, sign) if sign is not None and sign.is_bad else None


def fail_what_cannot_be_served(scene: Scene) -> Record | None:
    """Record Failed when no engine loads the model, or its class is too small for it."""
    target, observed = scene.cast.target, scene.observed
    if target is not scene.cast.wanted or not target.is_open or target.spec.template is not None:
        return None
    size = target.spec.instance_class or observed.instance_class
    problem = _find_problem(scene, target, size) if size is not None else None
    return _failed(scene, failures.Sign(problem.reason, problem.message)) if problem else None


def _find_problem(
    scene: Scene, target: Revision, size: InstanceClassSpec
) -> resolution.Problem | None:
    source, settings = target.spec.source, scene.settings
    if target.is_embedded:
        entry = resolution.find_embedded(source, settings)
        if isinstance(entry, resolution.Problem):
            return None  # the administrator may name an image yet
        return resolution.find_problem(source, resolution.read_embedded(entry), size, settings)
    found = target.spec.inspection or failures.find_inspection(scene.observed, target)
    return resolution.find_problem(source, found, size, settings) if found is not None else None


def fail_a_late_target(scene: Scene) -> Record | None:
    """Record Failed when nothing moved for the deadline and no sign says why."""
    target, end = scene.cast.target, deadline(scene)
    if end is None or scene.now < end or scene.cast.is_paused or current_sign(scene) is not None:
        return None
    seconds = deadline_seconds(scene, target)
    text = f"no progress within {seconds} s"
    return _failed(scene, failures.Sign(Reason.ProgressDeadlineExceeded, text))


def hold_the_deadline(scene: Scene) -> Record | None:
    """Move the deadline while paused or the surroundings are at fault, at half time each."""
    target, end = scene.cast.target, deadline(scene)
    half = datetime.timedelta(seconds=deadline_seconds(scene, target) / 2)
    if end is None or scene.now < end - half or scene.cast.is_swapping:
        return None
    if current_sign(scene) is None and not scene.cast.is_paused:
        return None
    return Record(target, {"progressAt": scene.stamp})


def _failed(scene: Scene, sign: failures.Sign) -> Record:
    target, token = scene.cast.target, scene.spec.model.token_secret_ref
    ended: dict[str, Any] = {"failedAt": scene.stamp}
    ended["tokenSecretRef"] = token.dump() if token is not None else None
    if scene.spec.rollout.failure_policy != "Hold" or target is not scene.cast.serving:
        ended |= {"retiredAt": scene.stamp, "answeredAt": None}
    return Record(
        target,
        ended
        | {"verdict": FAILED, "reason": sign.reason.value, "message": sign.message}
        | {"retry": scene.observed.chatmodel.retry, "download": None},
        sign.reason,
        sign.message,
    )


def current_sign(scene: Scene) -> failures.Sign | None:
    """Return the sign that can change the target's verdict now, or explains its wait."""
    cast, target = scene.cast, scene.cast.target
    if target is not cast.serving:
        started = parse_time(target.status.started_at)
        sign = failures.find_sign(scene.observed, target, started) if started else None
        could_start = target is cast.wanted and target.spec.template is not None
        if sign is None and could_start and (need := capacity.find_need(scene)):
            return failures.Sign(Reason.Unschedulable, need)
        lack = staging.lack(scene)
        return failures.Sign(Reason.InsufficientStorage, lack) if lack and sign is None else sign
    since = parse_time(target.status.serving_at)
    if target.is_verified or since is None or cast.last_good is None:
        return None
    return failures.find_bake_sign(scene.observed, target, since)


def verify_a_baked_target(scene: Scene) -> Record | None:
    """Record Verified after the bake; with nothing to go back to, as soon as it serves."""
    cast, target = scene.cast, scene.cast.target
    end = bake_end(scene)
    if not cast.is_baking or target is not cast.wanted or end is None or scene.now < end:
        return None
    if cast.is_paused:
        return None  # the bake does not end
    if not scene.observed.ready_pods(target):
        return None
    return Record(target, verified(scene, target, target.status.serving_at))


def verified(scene: Scene, target: Revision, serving_at: str | None) -> dict[str, Any]:
    """Return what is written of a revision found good; its `seconds` are those to its traffic."""
    started, serving = parse_time(target.status.started_at), parse_time(serving_at)
    seconds = int((serving - started).total_seconds()) if started and serving else None
    return {"verdict": VERIFIED, "verifiedAt": scene.stamp, "seconds": seconds} | dict.fromkeys(
        ("reason", "message", "download")
    )


def bake_end(scene: Scene) -> datetime.datetime | None:
    """Return when the bake of the serving target is over; None before it has traffic."""
    cast = scene.cast
    serving_at = parse_time(cast.target.status.serving_at)
    if serving_at is None:
        return None
    if cast.last_good is None:
        return serving_at
    bake = scene.spec.rollout.bake_seconds
    return serving_at + datetime.timedelta(seconds=scene.timings.max_connection_age_seconds + bake)


def undo_a_swap_in_vain(scene: Scene) -> Record | None:
    """Give the serving pods their room back when the candidate found none either."""
    wanted = scene.cast.wanted
    if wanted is None or not capacity.is_swap_in_vain(scene, deadline(scene)):
        return None
    return Record(wanted, {"swapUndoneAt": scene.stamp, "progressAt": scene.stamp})


def deadline_seconds(scene: Scene, revision: Revision) -> int:
    """Return the seconds without progress that a revision is given."""
    if scene.spec.rollout.progress_deadline_seconds is not None:
        return scene.spec.rollout.progress_deadline_seconds
    inspection = revision.spec.inspection
    total = inspection.total_bytes if inspection is not None else 0
    return BASE_DEADLINE_SECONDS + total // SLOWEST_BYTES_PER_SECOND


def deadline(scene: Scene) -> datetime.datetime | None:
    """Return when the target is given up; None when nothing of it is under way."""
    cast, target = scene.cast, scene.cast.target
    # A swap has one deadline from its start: nothing answers meanwhile, whatever moves.
    swapping = cast.is_swapping and cast.wanted is target
    since = target.status.swap_started_at if swapping else target.status.progress_at
    progress = parse_time(since)
    if target is cast.serving or not target.is_open or cast.replicas == 0 or progress is None:
        return None
    return progress + datetime.timedelta(seconds=deadline_seconds(scene, target))
