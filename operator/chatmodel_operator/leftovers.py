"""What has no use any more: finished Jobs, revisions beyond the history, pods that linger.

Called by `rollout`. Pure.
"""

import datetime

from chatmodel_operator import names
from chatmodel_operator.observed import Job, Pod, Revision, parse_time
from chatmodel_operator.scene import Scene


def is_useful(job: Job, inspect: Revision | None, stage: Revision | None, scene: Scene) -> bool:
    """Say whether a Job is still worth having; a finished one whose result was lost is not."""
    subject = inspect if job.role == names.ROLE_INSPECT else stage
    if subject is None or job.revision != subject.name:
        return False
    started = parse_time(subject.status.started_at)
    if started is None or job.created < started:
        return False
    if job.is_succeeded and not scene.observed.pods_of(subject, job.role):
        return False
    return job.failed_at is None or scene.now < inspect_again_at(scene, job, started)


def inspect_again_at(scene: Scene, job: Job, started: datetime.datetime) -> datetime.datetime:
    """Return when a failed inspection runs again: after half the time tried, at most 10 min."""
    assert job.failed_at is not None
    tried = (job.failed_at - started).total_seconds() / 2
    pause = min(max(tried, scene.timings.inspect_retry_seconds), 600.0)
    return job.failed_at + datetime.timedelta(seconds=pause)


def beyond_history(scene: Scene) -> tuple[str, ...]:
    """Return the oldest revisions over the limit; those that are needed do not count."""
    observed, cast = scene.observed, scene.cast
    needed = {cast.target, cast.wanted, cast.serving, cast.last_good}
    spare = [r for r in observed.revisions if r not in needed and not r.is_open]
    spare.sort(key=lambda r: r.number, reverse=True)
    return tuple(r.name for r in spare[scene.spec.rollout.history_limit :])


def lingering(scene: Scene) -> tuple[Pod, ...]:
    """Return pods of revisions that were given up, and take longer to end than these may.

    A good revision finishes its answers, whatever they take; a bad one must not hold its room.
    """
    longest = scene.timings.abandoned_seconds
    doomed = {
        r.name
        for r in scene.observed.revisions
        if not r.is_verified and not r.is_open and r is not scene.cast.serving
    }
    return tuple(
        pod
        for pod in scene.observed.pods
        if pod.revision in doomed and pod.is_deleting and pod.grace_seconds > longest
    )
