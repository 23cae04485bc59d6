"""What should exist, what should serve, what must be recorded first, and why. Pure.

Called by `reconcile` with a fresh picture. A pass either records (verdicts, intents, receipts) or
acts: acts follow only from what revisions already say, so a crash between two writes changes
nothing but the time.
"""

import dataclasses
import datetime
from collections.abc import Mapping

from chatmodel_operator import explanation, failures, names, revision, standing, verdicts
from chatmodel_operator.api.chatmodelrevision import Inspection, Source
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.observed import Job, Observed, Pod, Revision, parse_time
from chatmodel_operator.settings import Timings

QUESTION_SECONDS = 2.0


@dataclasses.dataclass(frozen=True)
class NewRevision:
    """A revision to create: the source it stands for has not been seen before."""

    name: str
    number: int
    source: Source


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
    record: verdicts.Record | None = None
    prepare: Preparation | None = None
    serving: Revision | None = None
    replicas: Mapping[str, int] = dataclasses.field(default_factory=dict)
    inspect: Revision | None = None
    drop_jobs: tuple[str, ...] = ()
    drop_revisions: tuple[str, ...] = ()
    wants_api_key: bool = False
    questions: tuple[Question, ...] = ()
    is_stalled: bool = False
    is_idle: bool = False  # status only: nothing may be written to children
    requeue_after: float | None = None


def plan_rollout(observed: Observed, timings: Timings, now: datetime.datetime) -> Plan:
    """Return what to do for one ChatModel, given one picture of the cluster."""
    spec = observed.chatmodel.spec
    if spec is None:
        return Plan(Reason.InvalidSpec, observed.chatmodel.invalid, is_stalled=True, is_idle=True)
    source = revision.source_of(spec)
    target = next((r for r in observed.revisions if r.spec.source == source), None)
    if target is None:
        return Plan(Reason.Pending, "a new revision is recorded", create=_name(observed, source))
    cast = standing.stand(observed, target, spec.replicas)
    scene = verdicts.Scene(observed, cast, timings, now)
    record = verdicts.next_record(scene)
    if record is not None:
        return Plan(Reason.Pending, record.message, cast, record=record)
    inspection = _finished_inspection(observed, cast)
    if _is_preparable(observed, cast, inspection):
        assert cast.wanted is not None
        preparation = Preparation(cast.wanted, inspection)
        return Plan(Reason.Pending, "a template is recorded", cast, prepare=preparation)
    return _act(scene)


def _act(scene: verdicts.Scene) -> Plan:
    observed, cast, now = scene.observed, scene.cast, scene.now
    why = explanation.explain(scene)
    inspect = cast.wanted if explanation.needs_inspection(cast) else None
    return Plan(
        why.reason,
        why.message,
        cast,
        serving=standing.choose(observed, cast),
        replicas=_replicas(scene),
        inspect=inspect,
        drop_jobs=tuple(
            name
            for name, job in observed.jobs.items()
            if not job.is_deleting and not _is_useful(job, inspect, observed, scene)
        ),
        drop_revisions=_beyond_history(observed, cast),
        wants_api_key=_wants_api_key(observed, cast),
        questions=tuple(_questions(observed, cast)),
        is_stalled=why.is_stalled,
        requeue_after=_next_look(scene, now),
    )


def _name(observed: Observed, source: Source) -> NewRevision:
    taken = frozenset(r.name for r in observed.revisions)
    return NewRevision(
        name=revision.name_of(observed.chatmodel.name, source, taken),
        number=max((r.number for r in observed.revisions), default=0) + 1,
        source=source,
    )


def _finished_inspection(observed: Observed, cast: standing.Standing) -> Inspection | None:
    if not explanation.needs_inspection(cast) or cast.wanted is None:
        return None
    return failures.find_inspection(observed, cast.wanted)


def _is_preparable(
    observed: Observed, cast: standing.Standing, inspection: Inspection | None
) -> bool:
    wanted = cast.wanted
    if wanted is None or not wanted.is_open or wanted.spec.template is not None:
        return False
    if wanted.spec.instance_class is None:
        return observed.instance_class is not None
    return wanted.is_mock or inspection is not None or wanted.spec.inspection is not None


def _replicas(scene: verdicts.Scene) -> dict[str, int]:
    """Return the wanted pods of each revision that has, or should have, a Deployment."""
    observed, cast = scene.observed, scene.cast
    kept = standing.keep(observed, cast, scene.timings, scene.now)
    chosen = standing.choose(observed, cast)
    wanted: dict[str, int] = {}
    for each in observed.revisions:
        deployment = observed.deployments.get(each.name)
        if each.spec.template is None or (deployment is None and each.name not in kept):
            continue
        current = deployment.replicas if deployment is not None else 0
        if each.name not in kept or (each.is_failed and each is not cast.serving):
            wanted[each.name] = 0
        elif each is chosen or each is cast.serving:
            wanted[each.name] = cast.replicas
        elif each is cast.wanted:
            # One pod until it has answered: a bad model must not take the room of many.
            wanted[each.name] = cast.replicas if each.is_answered else min(1, cast.replicas)
        else:
            wanted[each.name] = min(current, cast.replicas)
    return wanted


def _is_useful(
    job: Job, inspect: Revision | None, observed: Observed, scene: verdicts.Scene
) -> bool:
    """Say whether an inspect Job is still worth having; a finished one without a report is not."""
    if inspect is None or job.revision != inspect.name:
        return False
    started = parse_time(inspect.status.started_at)
    if started is None or job.created < started:
        return False
    if job.is_succeeded and not observed.pods_of(inspect, names.ROLE_INSPECT):
        return False
    return job.failed_at is None or scene.now < _inspect_again_at(scene, job, started)


def _inspect_again_at(
    scene: verdicts.Scene, job: Job, started: datetime.datetime
) -> datetime.datetime:
    """Return when a failed inspection runs again: after half the time tried, at most 10 min."""
    assert job.failed_at is not None
    tried = (job.failed_at - started).total_seconds() / 2
    pause = min(max(tried, scene.timings.inspect_retry_seconds), 600.0)
    return job.failed_at + datetime.timedelta(seconds=pause)


def _beyond_history(observed: Observed, cast: standing.Standing) -> tuple[str, ...]:
    assert observed.chatmodel.spec is not None
    needed = {cast.target, cast.wanted, cast.serving, cast.last_good}
    spare = [r for r in observed.revisions if r not in needed and not r.is_open]
    spare.sort(key=lambda r: r.number, reverse=True)
    return tuple(r.name for r in spare[observed.chatmodel.spec.rollout.history_limit :])


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
    for pod in observed.pods_of(wanted):
        if pod.ip and explanation.is_staging(pod):
            return [Question("progress", wanted, pod)]
    return []


def _next_look(scene: verdicts.Scene, now: datetime.datetime) -> float | None:
    """Return the seconds until time alone changes something; None when only events do."""
    cast = scene.cast
    moments = [verdicts.deadline(scene), standing.settled_at(cast, scene.timings)]
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
            moments.append(_inspect_again_at(scene, job, started))
    ahead = [(moment - now).total_seconds() for moment in moments if moment and moment > now]
    if _questions(scene.observed, cast):
        ahead.append(QUESTION_SECONDS)
    return min(ahead, default=None)
