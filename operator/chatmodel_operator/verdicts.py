"""What must be written on revisions before anything is done: verdicts, intents and receipts.

Called by `rollout`. Pure. Each rule is named by what it writes; the first that has something to
write is the only one that speaks in a pass, and its own record makes it silent in the next.
"""

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

from chatmodel_operator import failures, standing
from chatmodel_operator.api.chatmodelrevision import FAILED, PENDING, VERIFIED
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.observed import Observed, Revision, format_time, parse_time
from chatmodel_operator.settings import Timings

# Without a deadline in the spec: starting takes up to ten minutes, bytes come at 5 MB/s or faster.
BASE_DEADLINE_SECONDS = 600
SLOWEST_BYTES_PER_SECOND = 5_000_000
# An intent to switch that is older than this was never carried out: it is written anew.
INTENT_SECONDS = 5


@dataclasses.dataclass(frozen=True)
class Record:
    """A merge patch for the status of one revision, and the event it is worth."""

    revision: Revision
    status: dict[str, Any]
    reason: Reason | None = None
    message: str = ""


@dataclasses.dataclass(frozen=True)
class Scene:
    """What every rule looks at."""

    observed: Observed
    cast: standing.Standing
    timings: Timings
    now: datetime.datetime

    @property
    def stamp(self) -> str:
        return format_time(self.now)


def next_record(scene: Scene) -> Record | None:
    """Return the first thing to write, or None when revisions say all there is to say."""
    for rule in RULES:
        if (record := rule(scene)) is not None:
            return record
    return None


def retry_a_failed_target(scene: Scene) -> Record | None:
    """Open a new attempt when carepath.ai/retry has a value not seen at the verdict."""
    target, value = scene.cast.target, scene.observed.chatmodel.retry
    if not target.is_failed or value is None or value == target.status.retry:
        return None
    cleared = dict.fromkeys(
        ("reason", "message", "failedAt", "answeredAt", "servingAt", "retiredAt", "verification")
    )
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


def fail_a_late_target(scene: Scene) -> Record | None:
    """Record Failed when nothing moved for the deadline and no sign says why."""
    target, end = scene.cast.target, deadline(scene)
    if end is None or scene.now < end or current_sign(scene) is not None:
        return None
    seconds = deadline_seconds(scene, target)
    text = f"no progress within {seconds} s"
    return _failed(scene, failures.Sign(Reason.ProgressDeadlineExceeded, text))


def hold_the_deadline(scene: Scene) -> Record | None:
    """Move the start of the deadline while the surroundings are at fault, at half time each."""
    target, end = scene.cast.target, deadline(scene)
    half = datetime.timedelta(seconds=deadline_seconds(scene, target) / 2)
    if end is None or scene.now < end - half or current_sign(scene) is None:
        return None
    return Record(target, {"progressAt": scene.stamp})


def _failed(scene: Scene, sign: failures.Sign) -> Record:
    ended = {"failedAt": scene.stamp, "retiredAt": scene.stamp}
    return Record(
        scene.cast.target,
        ended
        | {"verdict": FAILED, "reason": sign.reason.value, "message": sign.message}
        | {"retry": scene.observed.chatmodel.retry, "answeredAt": None, "download": None},
        sign.reason,
        sign.message,
    )


def current_sign(scene: Scene) -> failures.Sign | None:
    """Return the sign that can change the target's verdict now, or explains its wait."""
    cast, target = scene.cast, scene.cast.target
    if target is not cast.serving:
        started = parse_time(target.status.started_at)
        return failures.find_sign(scene.observed, target, started) if started else None
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
    if not scene.observed.ready_pods(target):
        return None
    started, serving = parse_time(target.status.started_at), parse_time(target.status.serving_at)
    seconds = int((serving - started).total_seconds()) if started and serving else None
    return Record(
        target,
        {"verdict": VERIFIED, "verifiedAt": scene.stamp, "seconds": seconds}
        | {"reason": None, "message": None, "download": None},
    )


def bake_end(scene: Scene) -> datetime.datetime | None:
    """Return when the bake of the serving target is over; None before it has traffic."""
    cast = scene.cast
    serving_at = parse_time(cast.target.status.serving_at)
    if serving_at is None or scene.observed.chatmodel.spec is None:
        return None
    if cast.last_good is None:
        return serving_at
    bake = scene.observed.chatmodel.spec.rollout.bake_seconds
    return serving_at + datetime.timedelta(seconds=scene.timings.max_connection_age_seconds + bake)


def renew_a_returned_revision(scene: Scene) -> Record | None:
    """Renew `verifiedAt` of a revision that got the traffic back, once clients have moved."""
    serving = scene.cast.serving
    if serving is None or serving is not scene.cast.wanted or not serving.is_verified:
        return None
    since, verified = parse_time(serving.status.serving_at), parse_time(serving.status.verified_at)
    age = datetime.timedelta(seconds=scene.timings.max_connection_age_seconds)
    if since is None or verified is None or verified >= since or scene.now < since + age:
        return None
    return Record(serving, {"verifiedAt": scene.stamp})


def open_the_wanted_attempt(scene: Scene) -> Record | None:
    """Begin the attempt of a wanted revision that has none."""
    wanted = scene.cast.wanted
    if wanted is None or wanted.is_open or scene.cast.replicas == 0:
        return None
    cleared = dict.fromkeys(("answeredAt", "servingAt", "retiredAt", "verification", "download"))
    return Record(
        wanted,
        cleared
        | {"verdict": wanted.status.verdict or PENDING}
        | {"startedAt": scene.stamp, "progressAt": scene.stamp},
    )


def state_that_traffic_moves(scene: Scene) -> Record | None:
    """Record `servingAt` before the Service is switched; a selected one without it gets now."""
    chosen = standing.choose(scene.observed, scene.cast)
    if chosen is None:
        return None
    since = parse_time(chosen.status.serving_at)
    if chosen is scene.cast.serving:
        return None if since is not None else Record(chosen, {"servingAt": scene.stamp})
    fresh = datetime.timedelta(seconds=INTENT_SECONDS)
    if since is not None and scene.now - since <= fresh:
        return None
    return Record(chosen, {"servingAt": scene.stamp})


def state_that_traffic_has_left(scene: Scene) -> Record | None:
    """Take back `servingAt` of a revision that neither has the traffic nor is about to get it."""
    chosen = standing.choose(scene.observed, scene.cast)
    for revision in scene.observed.revisions:
        if revision is scene.cast.serving or revision is chosen:
            continue
        if revision.status.serving_at is not None:
            return Record(revision, {"servingAt": None})
    return None


def retire_what_is_not_kept(scene: Scene) -> Record | None:
    """End the attempt of every revision whose pods nobody needs, before they are removed."""
    kept = standing.keep(scene.observed, scene.cast, scene.timings, scene.now)
    for revision in scene.observed.revisions:
        if revision.is_open and revision.name not in kept:
            return Record(
                revision, {"retiredAt": scene.stamp, "answeredAt": None, "download": None}
            )
    return None


RULES: tuple[Callable[[Scene], Record | None], ...] = (
    retry_a_failed_target,
    fail_a_bad_target,
    fail_a_late_target,
    hold_the_deadline,
    verify_a_baked_target,
    renew_a_returned_revision,
    open_the_wanted_attempt,
    state_that_traffic_moves,
    state_that_traffic_has_left,
    retire_what_is_not_kept,
)


def deadline_seconds(scene: Scene, revision: Revision) -> int:
    """Return the seconds without progress that a revision is given."""
    spec = scene.observed.chatmodel.spec
    if spec is not None and spec.rollout.progress_deadline_seconds is not None:
        return spec.rollout.progress_deadline_seconds
    inspection = revision.spec.inspection
    total = inspection.total_bytes if inspection is not None else 0
    return BASE_DEADLINE_SECONDS + total // SLOWEST_BYTES_PER_SECOND


def deadline(scene: Scene) -> datetime.datetime | None:
    """Return when the target is given up; None when nothing of it is under way."""
    cast, target = scene.cast, scene.cast.target
    progress = parse_time(target.status.progress_at)
    if target is cast.serving or not target.is_open or cast.replicas == 0 or progress is None:
        return None
    return progress + datetime.timedelta(seconds=deadline_seconds(scene, target))
