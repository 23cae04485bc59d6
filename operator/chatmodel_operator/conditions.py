"""The conditions of a ChatModel: one function each, guards first; one setter for times.

Called by `status`. Pure.
"""

import datetime
from collections.abc import Mapping
from typing import Any

from chatmodel_operator import rollout, staging
from chatmodel_operator.api import conditions as api
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.observed import Observed, format_time

Found = tuple[str, str, str]  # status, reason, message

MESSAGE_LIMIT = 1024


def build_conditions(
    observed: Observed, plan: rollout.Plan, now: datetime.datetime
) -> list[dict[str, Any]]:
    """Return all conditions in their fixed order; abnormal ones only while they are true."""
    found: dict[str, Found | None] = {
        api.READY: _ready(plan),
        api.AVAILABLE: _available(observed, plan),
        api.PROGRESSING: _progressing(plan),
        api.MODEL_CACHED: _model_cached(observed, plan),
        api.DEGRADED: _degraded(observed, plan),
        api.STALLED: _stalled(plan),
    }
    before = {
        c["type"]: c for c in (observed.chatmodel.raw.get("status") or {}).get("conditions", [])
    }
    generation = observed.chatmodel.generation
    return [
        _set(before.get(kind), kind, what, generation, now)
        for kind in api.ORDER
        if (what := found[kind]) is not None
    ]


def _set(
    before: Mapping[str, Any] | None,
    kind: str,
    found: Found,
    generation: int,
    now: datetime.datetime,
) -> dict[str, Any]:
    """Return one condition; its transition time moves with its status alone."""
    status, reason, message = found
    stays = before is not None and before["status"] == status
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": _cut(message),
        "lastTransitionTime": before["lastTransitionTime"]
        if stays and before is not None
        else format_time(now),
        "observedGeneration": generation,
    }


def _cut(message: str) -> str:
    """Return a message that also fits an event's note, whose limit counts bytes."""
    if len(message.encode()) <= MESSAGE_LIMIT:
        return message
    return message.encode()[: MESSAGE_LIMIT - 3].decode(errors="ignore") + "..."


def _ready(plan: rollout.Plan) -> Found:
    if plan.reason is Reason.Pending and plan.cast is None:
        return "Unknown", plan.reason, plan.message
    serves = plan.reason in (Reason.Serving, Reason.Pinned)
    return ("True" if serves else "False"), plan.reason, plan.message


def _available(observed: Observed, plan: rollout.Plan) -> Found:
    serving = observed.find(observed.selected)
    if serving is None:
        reason = Reason.Stopped if plan.reason is Reason.Stopped else Reason.NothingServes
        return "False", reason, "no revision has the traffic yet"
    ready = len(observed.ready_pods(serving))
    text = f"revision {serving.number} has the traffic, {ready} of its pods are Ready"
    if ready:
        return "True", Reason.Serving, text
    return "False", Reason.Stopped if plan.reason is Reason.Stopped else plan.reason, text


def _progressing(plan: rollout.Plan) -> Found:
    resting = (Reason.Serving, Reason.Pinned, Reason.Stopped, Reason.Paused)
    going = plan.reason not in resting and not plan.is_stalled
    return ("True" if going else "False"), plan.reason, plan.message


def _model_cached(observed: Observed, plan: rollout.Plan) -> Found | None:
    """Say whether the target's weights are where a new pod finds them without the hub."""
    target = plan.cast.target if plan.cast is not None else None
    if target is None or target.is_mock:
        return None
    if target.is_embedded:
        built = target.spec.template is not None
        return ("True", Reason.Staged, "the model is inside the image") if built else None
    if not target.is_persistent:
        return None
    if staging.is_staged(observed, target):
        return "True", Reason.Staged, f"revision {target.number} is on the claim, verified"
    return "False", Reason.Staging, f"revision {target.number} is not on the claim"


def _degraded(observed: Observed, plan: rollout.Plan) -> Found | None:
    cast = plan.cast
    if cast is None or cast.serving is None or plan.reason is Reason.Stopped:
        return None
    if cast.is_rolled_back or cast.is_held or plan.reason is Reason.RollbackUnavailable:
        return "True", plan.reason, plan.message
    settled = cast.serving is cast.wanted and cast.serving.is_verified
    ready = len(observed.ready_pods(cast.serving))
    if settled and ready < cast.replicas:
        text = f"{ready} of {cast.replicas} pods of revision {cast.serving.number} are Ready"
        return "True", Reason.PartiallyAvailable, text
    return None


def _stalled(plan: rollout.Plan) -> Found | None:
    return ("True", plan.reason, plan.message) if plan.is_stalled else None
