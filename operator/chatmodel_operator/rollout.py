"""What should exist, what should serve, what must be recorded first, and why. Pure.

Called by `reconcile` with a fresh picture. A pass either records (verdicts, intents, receipts) or
acts: acts follow only from what revisions already say, so a crash between two writes changes
nothing but the time.
"""

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from chatmodel_operator import (
    allowance,
    capacity,
    explanation,
    failures,
    leftovers,
    names,
    records,
    resolution,
    revision,
    staging,
    standing,
    verdicts,
)
from chatmodel_operator.api.chatmodelrevision import Inspection, Source
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.observed import Observed, Pod, Revision, parse_time
from chatmodel_operator.scene import Record, Scene
from chatmodel_operator.settings import Settings

QUESTION_SECONDS = 2.0
# A claim that is not bound, or not attached, changes nothing; events, read later, say why.
CLAIM_SECONDS = 15.0


@dataclasses.dataclass(frozen=True)
class NewRevision:
    """A revision to create: the source it stands for has not been seen before."""

    name: str
    number: int
    source: Source
    commit: str | None = None  # of the revision it repeats
    files: tuple[str, ...] | None = None
    template: Mapping[str, Any] | None = None  # of the Deployment it was lost from


@dataclasses.dataclass(frozen=True)
class Preparation:
    """A revision whose remaining spec can be filled in, its template above all."""

    revision: Revision
    inspection: Inspection | None


@dataclasses.dataclass(frozen=True)
class Question:
    """Something to ask a pod's management port: does it answer rightly, how far is it."""

    kind: str  # "verify" or "progress"
    revision: Revision
    pod: Pod


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do now. With `create`, `record` or `prepare` set that comes first, alone."""

    reason: Reason
    message: str
    cast: standing.Standing | None = None
    create: NewRevision | None = None
    record: Record | None = None
    prepare: Preparation | None = None
    serving: Revision | None = None
    replicas: Mapping[str, int] = dataclasses.field(default_factory=dict)
    inspect: Revision | None = None
    stage: Revision | None = None
    claim_bytes: int | None = None
    drops_claim: bool = False
    is_budgeted: bool = False
    calls_hub: bool = False
    keep_folders: tuple[str, ...] = ()
    storage_price: str | None = None
    drop_jobs: tuple[str, ...] = ()
    drop_revisions: tuple[str, ...] = ()
    hasten: tuple[Pod, ...] = ()
    wants_api_key: bool = False
    questions: tuple[Question, ...] = ()
    is_stalled: bool = False
    is_idle: bool = False  # status only: nothing may be written to children
    requeue_after: float | None = None


def plan_rollout(observed: Observed, settings: Settings, now: datetime.datetime) -> Plan:
    """Return what to do for one ChatModel, given one picture of the cluster."""
    spec = observed.chatmodel.spec
    if spec is None:
        return Plan(Reason.InvalidSpec, observed.chatmodel.invalid, is_stalled=True, is_idle=True)
    if (lost := _lost_revision(observed)) is not None:
        return Plan(Reason.Pending, "a lost revision is recorded again", create=lost)
    pinned = spec.rollout.pinned_revision
    if pinned is not None:
        return _plan_pinned(observed, settings, now, pinned)
    source = observed.chatmodel.source
    target = next((r for r in observed.revisions if r.spec.source == source), None)
    refusal = allowance.find_refusal(source, settings)
    if refusal and (target is None or target.name != observed.selected):
        return _plan_as_is(observed, settings, now, Reason.NotAllowed, refusal)
    if target is None:
        return Plan(Reason.Pending, "a new revision is recorded", create=_name(observed, source))
    return _plan(Scene(observed, standing.stand(observed, target), settings, now))


def plan_answered(
    observed: Observed, answer: Record | None, settings: Settings, now: datetime.datetime
) -> Plan:
    """Return what to do when a pod has given the right answer, if it has.

    The answer is recorded first, in one write with what it makes the next record of its revision.
    """
    if answer is None:
        return plan_rollout(observed, settings, now)
    answer = records.complete(answer)
    plan = plan_rollout(records.as_written(observed, answer), settings, now)
    following = plan.record
    if following is not None and following.revision.uid == answer.revision.uid:
        answer = dataclasses.replace(answer, status=answer.status | following.status)
    return Plan(Reason.Pending, "an answer is recorded", plan.cast, record=answer)


def _plan_pinned(observed: Observed, settings: Settings, now: datetime.datetime, name: str) -> Plan:
    """Return the plan for a pinned revision; one that cannot be had changes nothing."""
    found = observed.find(name)
    if found is not None and found.is_verified and found.spec.template is not None:
        return _plan(
            Scene(observed, standing.stand(observed, found, is_pinned=True), settings, now)
        )
    state = f"is {found.status.verdict or 'Pending'}" if found is not None else "does not exist"
    text = f"rollout.pinnedRevision {name} {state}; only a Verified revision can be pinned"
    return _plan_as_is(observed, settings, now, Reason.RollbackUnavailable, text)


def _plan_as_is(
    observed: Observed, settings: Settings, now: datetime.datetime, reason: Reason, text: str
) -> Plan:
    """Return the plan for what has the traffic, since what was asked for cannot be had."""
    serving = observed.find(observed.selected)
    if serving is None:
        return Plan(reason, text, is_stalled=True, is_idle=True)
    plan = _plan(Scene(observed, standing.stand(observed, serving), settings, now))
    return dataclasses.replace(plan, reason=reason, message=text, is_stalled=True)


def _plan(scene: Scene) -> Plan:
    observed, cast = scene.observed, scene.cast
    record = records.next_record(scene)
    if record is not None:
        return Plan(Reason.Pending, record.message, cast, record=record)
    inspection = _finished_inspection(observed, cast)
    if _is_preparable(scene, inspection):
        assert cast.wanted is not None
        preparation = Preparation(cast.wanted, inspection)
        return Plan(Reason.Pending, "a template is recorded", cast, prepare=preparation)
    return _act(scene)


def _act(scene: Scene) -> Plan:
    observed, cast, now = scene.observed, scene.cast, scene.now
    why = explanation.explain(scene)
    inspect = cast.wanted if explanation.needs_inspection(cast) else None
    stage = staging.to_stage(scene)
    return Plan(
        why.reason,
        why.message,
        cast,
        serving=scene.chosen,
        replicas=capacity.plan_replicas(scene),
        inspect=inspect,
        stage=stage,
        claim_bytes=staging.claim_bytes(scene),
        drops_claim=staging.is_claim_spare(observed, cast),
        is_budgeted=scene.chosen is not None and cast.replicas > 1,
        calls_hub=any(_calls_hub(r) for r in observed.revisions if r.name in scene.kept),
        keep_folders=tuple(staging.folders(cast)),
        storage_price=scene.settings.prices.storage_gib_month,
        drop_jobs=tuple(
            name
            for name, job in observed.jobs.items()
            if not job.is_deleting and not leftovers.is_useful(job, inspect, stage, scene)
        ),
        drop_revisions=leftovers.beyond_history(scene),
        hasten=leftovers.lingering(scene),
        wants_api_key=_wants_api_key(observed, cast),
        questions=tuple(_questions(observed, cast)),
        is_stalled=why.is_stalled,
        requeue_after=_next_look(scene, now),
    )


def _name(observed: Observed, source: Source) -> NewRevision:
    taken = frozenset(r.name for r in observed.revisions)
    repeated = [r for r in observed.revisions if revision.is_restart_of(r.spec.source, source)]
    return NewRevision(
        name=revision.name_of(observed.chatmodel.name, source, taken),
        number=max((r.number for r in observed.revisions), default=0) + 1,
        source=source,
        commit=repeated[-1].spec.commit if repeated else None,
    )


def _lost_revision(observed: Observed) -> NewRevision | None:
    """Return a revision whose object is gone while its Deployment still says what it was."""
    known = {r.name for r in observed.revisions}
    for name, deployment in observed.deployments.items():
        if name in known or deployment.is_deleting:
            continue
        if deployment.source is not None and deployment.number is not None:
            found = deployment.source, deployment.commit, deployment.files, deployment.template
            return NewRevision(name, deployment.number, *found)
    return None


def _finished_inspection(observed: Observed, cast: standing.Standing) -> Inspection | None:
    if not explanation.needs_inspection(cast) or cast.wanted is None:
        return None
    return failures.find_inspection(observed, cast.wanted)


def _is_preparable(scene: Scene, inspection: Inspection | None) -> bool:
    wanted = scene.cast.wanted
    if wanted is None or not wanted.is_open or wanted.spec.template is not None:
        return False
    if wanted.spec.instance_class is None:
        return scene.observed.instance_class is not None
    if wanted.is_embedded and not wanted.is_mock:
        found = resolution.find_embedded(wanted.spec.source, scene.settings)
        return not isinstance(found, resolution.Problem)
    return wanted.is_mock or inspection is not None or wanted.spec.inspection is not None


def _calls_hub(revision: Revision) -> bool:
    return not (revision.is_mock or revision.is_persistent or revision.is_embedded)


def _wants_api_key(observed: Observed, cast: standing.Standing) -> bool:
    wanted = cast.wanted
    if wanted is None or wanted.spec.template is None or wanted.spec.source.auth.mode != "ApiKey":
        return False
    reports = (c.report() for pod in observed.pods_of(wanted) for c in pod.containers)
    missing = any(report.get("reason") == Reason.ApiKeyMissing for report in reports)
    return missing or wanted.name not in observed.deployments


def _questions(observed: Observed, cast: standing.Standing) -> list[Question]:
    wanted = cast.wanted
    if wanted is None or not wanted.is_open or wanted.is_answered:
        return []
    for pod in observed.ready_pods(wanted):
        return [Question("verify", wanted, pod)]
    for pod in (*observed.pods_of(wanted), *observed.pods_of(wanted, names.ROLE_STAGE)):
        if pod.ip and explanation.is_staging(pod):
            return [Question("progress", wanted, pod)]
    return []


def _next_look(scene: Scene, now: datetime.datetime) -> float | None:
    """Return the seconds until time alone changes something; None when only events do."""
    cast = scene.cast
    moments = [
        verdicts.deadline(scene),
        standing.moved_at(cast, scene.timings),
        capacity.next_decision(scene),
    ]
    if cast.is_baking:
        moments.append(verdicts.bake_end(scene))
    serving = cast.serving
    if serving is not None and serving.status.serving_at is not None:
        since = parse_time(serving.status.serving_at)
        age = datetime.timedelta(seconds=scene.timings.max_connection_age_seconds)
        moments.append(since + age if since else None)
    started = parse_time(cast.wanted.status.started_at) if cast.wanted else None
    for job in scene.observed.jobs.values():
        if job.failed_at is not None and started is not None:
            moments.append(leftovers.inspect_again_at(scene, job, started))
    ahead = [(moment - now).total_seconds() for moment in moments if moment and moment > now]
    if _questions(scene.observed, cast):
        ahead.append(QUESTION_SECONDS)
    claim = scene.observed.claim
    if claim is not None and not claim.is_bound and staging.needs_staging(scene.observed, cast):
        ahead.append(CLAIM_SECONDS)
    elif claim is not None and any(pod.is_held_up for pod in scene.observed.pods):
        ahead.append(CLAIM_SECONDS)
    return min(ahead, default=None)
