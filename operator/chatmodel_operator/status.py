"""The status of a ChatModel, rebuilt whole from what is seen, and the event its change is worth.

Called by `reconcile`. Pure.
"""

import datetime
import decimal
from typing import Any

from chatmodel_operator import conditions, names, resolution, rollout
from chatmodel_operator.api import conditions as api
from chatmodel_operator.api.chatmodel import KIND
from chatmodel_operator.api.fields import GROUP, VERSION
from chatmodel_operator.api.reasons import Class, Reason
from chatmodel_operator.api.reasons_explained import EXPLANATIONS
from chatmodel_operator.observed import ChatModel, Observed, Revision

Body = dict[str, Any]
HOURS_A_MONTH = 730


def build_status(observed: Observed, plan: rollout.Plan, now: datetime.datetime) -> Body:
    """Return the whole status; a key without a value is left out."""
    cast = plan.cast
    target = cast.target if cast is not None else None
    serving = observed.find(observed.selected)
    body = {
        "observedGeneration": observed.chatmodel.generation,
        "conditions": conditions.build_conditions(observed, plan, now),
        "serving": _reference(serving),
        "target": _reference(target),
        **_pods(observed, serving),
        **_access(observed),
        "model": _model(target),
        "download": _download(target),
        "lastFailure": _last_failure(observed),
        "rollbackRevision": _rollback_revision(plan),
        "lastRollout": _last_rollout(observed, target),
        "cost": _cost(observed, plan, serving),
    }
    return {key: value for key, value in body.items() if value is not None}


def is_brief(chatmodel: ChatModel, plan: rollout.Plan) -> bool:
    """Say whether a status will most likely be another's within the second.

    A pod that is asked mostly answers at once; what was said of this generation before still holds.
    """
    before = chatmodel.raw.get("status") or {}
    said = _ready(before)
    if said is None or before.get("observedGeneration") != chatmodel.generation:
        return False
    return plan.reason is Reason.Verifying and said["reason"] != Reason.Verifying


def _reference(revision: Revision | None) -> Body | None:
    if revision is None:
        return None
    body = {
        "revision": revision.name,
        "number": revision.number,
        "mode": revision.spec.source.mode,
        "modelID": revision.spec.source.model_id,
        "commit": revision.spec.commit,
    }
    return {key: value for key, value in body.items() if value is not None}


def _pods(observed: Observed, serving: Revision | None) -> Body:
    """Return the counts of the serving revision; the selector is there from the first status on."""
    chatmodel = observed.chatmodel
    name = serving.name if serving is not None else names.NO_REVISION
    selector = names.selector(chatmodel.name, name)
    pods = observed.pods_of(serving) if serving is not None else ()
    ready = sum(pod.is_ready for pod in pods)
    wanted = chatmodel.spec.replicas if chatmodel.spec is not None else 0
    return {
        "replicas": len(pods),
        "readyReplicas": ready,
        "pods": f"{ready}/{wanted}",
        "selector": ",".join(f"{key}={value}" for key, value in sorted(selector.items())),
    }


def _access(observed: Observed) -> Body:
    chatmodel = observed.chatmodel
    needs_key = chatmodel.spec is not None and chatmodel.spec.auth.mode == "ApiKey"
    return {
        "endpoint": f"http://{chatmodel.name}.{chatmodel.namespace}.svc:{names.PUBLIC_PORT}",
        "apiKeySecretName": names.api_key_secret(chatmodel.name) if needs_key else None,
    }


def _model(target: Revision | None) -> Body | None:
    if target is None or target.spec.source.model_id is None:
        return None
    found = target.spec.inspection
    body = {
        "id": target.spec.source.model_id,
        "requestedRevision": target.spec.source.model_revision,
        "commit": target.spec.commit,
        "totalBytes": found.total_bytes if found is not None else None,
        "weightBytes": found.weight_bytes if found is not None else None,
        "requiredMemory": resolution.required_memory(found, target.spec.source)
        if found is not None
        else None,
        "engine": target.spec.engine,
        "engineMessage": resolution.explain_engine(target.spec),
    }
    return {key: value for key, value in body.items() if value is not None}


def _download(target: Revision | None) -> Body | None:
    if target is None or target.status.download is None:
        return None
    return target.status.download.dump()


def _last_failure(observed: Observed) -> Body | None:
    failed = [r for r in observed.revisions if r.is_failed and r.status.failed_at]
    last = max(failed, key=lambda r: (r.status.failed_at or "", r.number), default=None)
    if last is None:
        return None
    return {
        "revision": last.name,
        "reason": last.status.reason,
        "message": last.status.message,
        "time": last.status.failed_at,
    }


def _rollback_revision(plan: rollout.Plan) -> str | None:
    """Return where a rollback would go; while the target is bad it has gone there already."""
    cast = plan.cast
    if cast is None or cast.last_good is None or cast.last_good is cast.wanted:
        return None
    return cast.last_good.name


def _last_rollout(observed: Observed, target: Revision | None) -> Body | None:
    if target is None or (target.status.serving_at is None and not target.is_failed):
        return None
    verified = "Succeeded" if target.is_verified else "Progressing"
    body = {
        "from": target.status.replaced,
        "to": target.name,
        "result": "Failed" if target.is_failed else verified,
        "seconds": target.status.seconds,
        "outageSeconds": target.status.outage_seconds,
    }
    return {key: value for key, value in body.items() if value is not None}


def _cost(observed: Observed, plan: rollout.Plan, serving: Revision | None) -> Body | None:
    """Return what the wanted pods cost; today's price where the class is still the same."""
    spec = observed.chatmodel.spec
    copied = serving.spec.instance_class if serving is not None else None
    if spec is None or copied is None:
        return None
    assert serving is not None
    today = observed.instance_class
    is_same = serving.spec.source.instance_class_name == spec.instance_class_name
    price = today.price if is_same and today is not None else copied.price
    if price is None:
        return None
    hourly = decimal.Decimal(price.hourly) * spec.replicas
    body = {
        "hourly": f"{hourly:.4f}",
        "monthly": f"{hourly * HOURS_A_MONTH:.2f}",
        "currency": price.currency,
    }
    if plan.storage_price is not None and observed.claim is not None:
        gib = decimal.Decimal(observed.claim.requested_bytes) / 1024**3
        body["storageMonthly"] = f"{gib * decimal.Decimal(plan.storage_price):.2f}"
    return body


def build_event(chatmodel: ChatModel, status: Body, now: datetime.datetime) -> Body | None:
    """Return the event that a change of Ready's reason is worth; None without a change."""
    after = _ready(status)
    before = _ready(chatmodel.raw.get("status") or {})
    if after is None or (before is not None and before["reason"] == after["reason"]):
        return None
    reason = Reason(after["reason"])
    is_normal = EXPLANATIONS[reason].klass is Class.STATE and reason not in (
        Reason.RolledBack,
        Reason.RollingBack,
        Reason.RollbackFailed,
        Reason.NoPreviousRevision,
        Reason.RollbackUnavailable,
        Reason.Held,
    )
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": f"{chatmodel.name}-", "namespace": chatmodel.namespace},
        "eventTime": now.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": "Normal" if is_normal else "Warning",
        "reason": reason.value,
        "note": after["message"],
        "action": "Rollout",
        "reportingController": f"{GROUP}/{names.FIELD_MANAGER}",
        "reportingInstance": names.FIELD_MANAGER,
        "regarding": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "name": chatmodel.name,
            "namespace": chatmodel.namespace,
            "uid": chatmodel.uid,
        },
    }


def _ready(status: Body) -> Body | None:
    return next((c for c in status.get("conditions") or [] if c["type"] == api.READY), None)
