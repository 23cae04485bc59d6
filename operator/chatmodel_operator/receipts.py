"""Rules that write intents and receipts: an attempt, a swap, the traffic, what is staged.

Called by `records`. Pure. Each is written before the act it justifies, so that a crash between the
two changes nothing but the time.
"""

import datetime
from typing import Any

from chatmodel_operator import capacity, failures, staging, verdicts
from chatmodel_operator.api.chatmodelrevision import FAILED, PENDING, VERIFIED
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.observed import Revision, Stamp, parse_time
from chatmodel_operator.scene import SWAP, Record, Scene

# An intent to switch that is older than this was never carried out: it is written anew. Not less
# than a request may take (`api_client.TIMEOUT`): behind a slow API server, intents that are too old
# when they are read would be renewed for ever. It shortens the bake after a crash by as much.
INTENT_SECONDS = 15


def restore_a_lost_receipt(scene: Scene) -> Record | None:
    """Give a blank revision the verdict that its Deployment was stamped with."""
    for revision in scene.observed.revisions:
        stamped = scene.observed.stamps.get(revision.name)
        if not revision.is_blank or stamped is None:
            continue
        if stamped.verdict == FAILED:
            return _failed_again(scene, revision, stamped)
        lost: dict[str, Any] = {"verdict": VERIFIED, "verifiedAt": stamped.at}
        claim = scene.observed.claim
        if revision.is_persistent and claim is not None and scene.observed.ready_pods(revision):
            lost["staged"] = {"time": scene.stamp, "claimUID": claim.uid}
        if revision is scene.cast.serving:
            now = {"startedAt": scene.stamp, "answeredAt": scene.stamp, "servingAt": scene.stamp}
            return Record(revision, lost | now | {"progressAt": scene.stamp})
        return Record(revision, lost | {"startedAt": stamped.at, "retiredAt": scene.stamp})
    return None


def _failed_again(scene: Scene, revision: Revision, stamped: Stamp) -> Record:
    """Return the verdict of a bad revision: that its object was lost is no wish to try it again."""
    token = scene.spec.model.token_secret_ref
    keeps_traffic = scene.spec.rollout.failure_policy == "Hold" and revision is scene.cast.serving
    return Record(
        revision,
        {"verdict": FAILED, "reason": stamped.reason, "message": stamped.message}
        | {"startedAt": stamped.at, "failedAt": stamped.at}
        | ({"servingAt": scene.stamp} if keeps_traffic else {"retiredAt": scene.stamp})
        | {"retry": scene.observed.chatmodel.retry}
        | {"tokenSecretRef": token.dump() if token is not None else None},
    )


def open_the_wanted_attempt(scene: Scene) -> Record | None:
    """Begin the attempt of a wanted revision that has none."""
    wanted = scene.cast.wanted
    if wanted is None or wanted.is_open or scene.cast.replicas == 0:
        return None
    if scene.cast.is_paused and wanted is scene.cast.target:
        return None
    cleared = dict.fromkeys(("answeredAt", "servingAt", "retiredAt", "verification", "download"))
    if wanted.status.swap_undone_at is None:
        cleared |= dict.fromkeys(SWAP)  # a swap that was in vain is not tried again
    return Record(
        wanted,
        cleared
        | {"verdict": wanted.status.verdict or PENDING}
        | {"startedAt": scene.stamp, "progressAt": scene.stamp},
    )


def record_what_is_staged(scene: Scene) -> Record | None:
    """Record where the weights are once the stage Job has ended well; take back what is gone."""
    wanted, claim = scene.cast.wanted, scene.observed.claim
    if wanted is None or not wanted.is_persistent or not wanted.is_open or claim is None:
        return None
    if staging.is_staged(scene.observed, wanted):
        return Record(wanted, {"staged": None}) if _is_lost(scene, wanted) else None
    if not failures.is_job_done(scene.observed, wanted):
        return None
    staged = {"time": scene.stamp, "claimUID": claim.uid}
    return Record(wanted, {"staged": staged, "progressAt": scene.stamp, "download": None})


def _is_lost(scene: Scene, wanted: Revision) -> bool:
    """Say whether pods found the weights gone since they were staged, or a verified model changed.

    Of a model that was never verified a changed file is a bad sign: it has just been fetched.
    """
    since = parse_time(wanted.status.staged.time) if wanted.status.staged is not None else None
    signs = (Reason.CacheMissing, *((Reason.IntegrityError,) if wanted.is_verified else ()))
    return since is not None and failures.has_reported(scene.observed, wanted, signs, since)


def begin_a_swap(scene: Scene) -> Record | None:
    """Record the intent to let the serving pods make room, before any of them is stopped."""
    wanted = scene.cast.wanted
    if wanted is None or not capacity.is_swap_due(scene):
        return None
    return Record(wanted, {"swapStartedAt": scene.stamp, "progressAt": scene.stamp})


def record_that_room_was_made(scene: Scene) -> Record | None:
    """Record when the last serving pod had stopped, which begins the outage that is told."""
    wanted = scene.cast.wanted
    if wanted is None or not capacity.is_room_made(scene):
        return None
    return Record(wanted, {"roomMadeAt": scene.stamp})


def state_that_traffic_moves(scene: Scene) -> Record | None:
    """Record `servingAt` before the Service is switched; a selected one without it gets now.

    With nothing to go back to there is nothing to bake for: the target is Verified with it.
    """
    chosen, serving = scene.chosen, scene.cast.serving
    if chosen is None:
        return None
    since = parse_time(chosen.status.serving_at)
    if chosen is serving:
        return None if since is not None else Record(chosen, {"servingAt": scene.stamp})
    fresh = datetime.timedelta(seconds=INTENT_SECONDS)
    if since is not None and scene.now - since <= fresh:
        return None
    body: dict[str, Any] = {"servingAt": scene.stamp}
    body["replaced"] = serving.name if serving is not None else None
    if chosen is scene.cast.wanted and chosen.status.room_made_at is not None:
        body["outageSeconds"] = _seconds_since(scene, chosen.status.room_made_at)
    if chosen is scene.cast.target and not chosen.is_verified and scene.cast.last_good is None:
        body |= verdicts.verified(scene, chosen, scene.stamp)
    return Record(chosen, body)


def _seconds_since(scene: Scene, text: str | None) -> int | None:
    moment = parse_time(text)
    return int((scene.now - moment).total_seconds()) if moment is not None else None


def state_that_traffic_has_left(scene: Scene) -> Record | None:
    """Take back `servingAt` of a revision that neither has the traffic nor is about to get it."""
    for revision in scene.observed.revisions:
        if revision is scene.cast.serving or revision is scene.chosen:
            continue
        if revision.status.serving_at is not None:
            return Record(revision, {"servingAt": None})
    return None


def retire_what_is_not_kept(scene: Scene) -> Record | None:
    """End the attempt of every revision whose pods nobody needs, before they are removed."""
    for revision in scene.observed.revisions:
        if revision.is_open and revision.name not in scene.kept:
            return Record(
                revision, {"retiredAt": scene.stamp, "answeredAt": None, "download": None}
            )
    return None


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
