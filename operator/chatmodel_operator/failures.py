"""Signs on pods and Jobs → reason and class: the table of docs/design.md, section 4.3.

Called by `rollout`. A *bad* sign speaks against the revision; any other explains a wait and never
changes a verdict. A pod that is being deleted or was disrupted says nothing about its revision.
"""

import dataclasses
import datetime
import re
from collections.abc import Iterable, Iterator

import pydantic

from chatmodel_operator import names
from chatmodel_operator.api.chatmodelrevision import Inspection
from chatmodel_operator.api.reasons import Class, Reason
from chatmodel_operator.api.reasons_explained import EXPLANATIONS
from chatmodel_operator.observed import Container, Observed, Pod, Revision

EXIT_CONFIG, EXIT_BAD_MODEL, EXIT_TRY_AGAIN = 64, 65, 75
MAX_RESTARTS = 3
MAX_WRONG_ANSWERS = 3

_NOT_FOUND = re.compile(r"not found|manifest unknown|ErrImageNeverPull", re.I)
_REFUSED = re.compile(r"authoriz|denied|forbidden|\b40[13]\b", re.I)
_PULLING = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable")
# Other errors of making a container pass by themselves, or meet the deadline.
_CONFIG = ("CreateContainerConfigError",)
_NO_SECRET = re.compile(r'secret "[^"]*" not found')
_NO_KEY = re.compile(r"couldn't find key|references non-existent secret key")
_NO_CLASS = re.compile(r'storageclass\S* "[^"]*" not found', re.I)


@dataclasses.dataclass(frozen=True)
class Sign:
    """Something seen that explains why a revision does not get on."""

    reason: Reason
    message: str

    @property
    def is_bad(self) -> bool:
        """Whether it speaks against the revision rather than its surroundings."""
        return EXPLANATIONS[self.reason].klass is Class.BAD_REVISION

    @property
    def is_cured_outside(self) -> bool:
        """Whether only somebody outside the cluster can cure it."""
        return EXPLANATIONS[self.reason].klass is Class.CURED_OUTSIDE


def find_sign(observed: Observed, revision: Revision, since: datetime.datetime) -> Sign | None:
    """Return the gravest sign on what was made for a revision from `since` on: bad ones first."""
    signs = list(_signs(observed, revision, since))
    return next((sign for sign in signs if sign.is_bad), signs[0] if signs else None)


def find_bake_sign(observed: Observed, revision: Revision, since: datetime.datetime) -> Sign | None:
    """Return what speaks against a revision under traffic: also a restart or lost readiness."""
    for pod in observed.pods_of(revision):
        if pod.is_disrupted:
            continue
        for container in pod.containers:
            if container.ended_at is None or container.ended_at <= since:
                continue
            if (sign := _ended(container, always=True)) is not None and sign.is_bad:
                return sign
        # On a lost node only Ready falls, by the node controller's hand: no sign of the model's.
        lost = not pod.is_ready and not pod.are_containers_ready
        if lost and pod.created < since and not pod.unschedulable:
            return Sign(Reason.ReadinessLost, f"pod {pod.name} was Ready and is not any more")
    sign = find_sign(observed, revision, since)
    return sign if sign is not None and sign.is_bad else None


def _signs(observed: Observed, revision: Revision, since: datetime.datetime) -> Iterator[Sign]:
    verification = revision.status.verification
    if verification is not None and verification.failures >= MAX_WRONG_ANSWERS:
        yield Sign(
            Reason.VerificationFailed,
            f"{verification.failures} wrong answers running: {verification.message}",
        )
    pods = [
        pod
        for role in (names.ROLE_SERVE, names.ROLE_INSPECT, names.ROLE_STAGE)
        for pod in observed.pods_of(revision, role)
        if pod.created >= since and not pod.is_disrupted
    ]
    yield from _claim_signs(observed, revision)
    for pod in pods:
        yield from _pod_signs(pod)
    yield from _crashed_inspections(pods)
    deployment = observed.deployments.get(revision.name)
    if deployment is not None and deployment.refused:
        reason = (
            Reason.QuotaExceeded
            if "exceeded quota" in deployment.refused
            else Reason.AdmissionDenied
        )
        yield Sign(reason, deployment.refused)
    if verification is not None and verification.reason == Reason.VerificationUnreachable:
        yield Sign(Reason.VerificationUnreachable, verification.message or "")


def _crashed_inspections(pods: list[Pod]) -> Iterator[Sign]:
    """A Job's pods are never restarted: so many that crashed are a crash loop."""
    known = (0, EXIT_CONFIG, EXIT_BAD_MODEL, EXIT_TRY_AGAIN, None)
    crashed = [
        container
        for pod in pods
        if pod.role == names.ROLE_INSPECT
        for container in pod.containers
        if container.exit_code not in known
    ]
    if len(crashed) >= MAX_RESTARTS:
        text = f"{len(crashed)} inspections crashed; last: exit code {crashed[-1].exit_code}"
        yield Sign(Reason.CrashLooping, text)


def _claim_signs(observed: Observed, revision: Revision) -> Iterator[Sign]:
    """A claim that is not bound is no fault while nothing has asked for it, or its class waits."""
    claim = observed.claim
    if not revision.is_persistent or claim is None or claim.is_bound:
        return
    if claim.is_lost:
        name = names.models_claim(observed.chatmodel.name)
        yield Sign(Reason.VolumeLost, f"the volume of claim {name} is gone")
    if claim.trouble:
        missing = _NO_CLASS.search(claim.trouble)
        yield Sign(
            Reason.StorageClassMissing if missing else Reason.WaitingForVolume, claim.trouble
        )


def _pod_signs(pod: Pod) -> Iterable[Sign]:
    if pod.unschedulable:
        is_claim = "PersistentVolumeClaim" in pod.unschedulable
        yield Sign(Reason.WaitingForVolume if is_claim else Reason.Unschedulable, pod.unschedulable)
    elif pod.trouble:
        yield Sign(Reason.WaitingForVolume, pod.trouble)
    if pod.is_ready:
        return
    # Only the node controller makes a pod unready whose containers are ready.
    if pod.are_containers_ready:
        yield Sign(Reason.NodeLost, f"the node of pod {pod.name} does not answer")
    for container in pod.containers:
        for sign in (_waiting(container), _ended(container, always=False)):
            if sign is not None:
                yield _of_the_fetch(pod, sign)


def _of_the_fetch(pod: Pod, sign: Sign) -> Sign:
    """A Job that was killed while fetching says nothing about the model."""
    if pod.role == names.ROLE_STAGE and sign.reason in (Reason.OOMKilled, Reason.CrashLooping):
        return Sign(Reason.FetchInterrupted, sign.message)
    return sign


def _waiting(container: Container) -> Sign | None:
    reason, text = container.waiting_reason, container.waiting_message
    if reason == "InvalidImageName":
        return Sign(Reason.InvalidImageName, text)
    if reason in _PULLING:
        missing = _NOT_FOUND.search(f"{reason} {text}") and not _REFUSED.search(text)
        return Sign(Reason.ImageNotFound if missing else Reason.RegistryUnavailable, text)
    if reason in _CONFIG and _NO_SECRET.search(text):
        return Sign(Reason.SecretNotFound, text)
    if reason in _CONFIG and _NO_KEY.search(text):
        return Sign(Reason.SecretKeyMissing, text)
    if reason in _CONFIG:
        return Sign(Reason.ConfigError, text)
    return None


def _ended(container: Container, *, always: bool) -> Sign | None:
    """Return what a container's end says; `always`: also a single crash counts."""
    code = container.exit_code
    if code == 0 and container.name == names.CONTAINER_INSPECT:
        unread = read_inspection(container) is None
        return (
            Sign(Reason.ConfigError, "the inspection's report cannot be read") if unread else None
        )
    # The serving container has no reason to end: the kubelet ends one that does not answer, with 0.
    if code is None or (code == 0 and container.name != names.CONTAINER_SERVE):
        return None
    if code == EXIT_TRY_AGAIN and container.is_running:
        return None  # tried again already
    if container.ended_reason == "OOMKilled":
        return Sign(Reason.OOMKilled, f"container {container.name} was killed for its memory limit")
    report = container.report()
    message = str(report.get("message") or f"container {container.name} exited with code {code}")
    if code in (EXIT_CONFIG, EXIT_BAD_MODEL, EXIT_TRY_AGAIN):
        return Sign(_reported(code, str(report.get("reason", ""))), message)
    if always or container.restarts >= MAX_RESTARTS:
        return Sign(Reason.CrashLooping, f"{container.restarts} restarts; last: {message}")
    return None


def _reported(code: int, word: str) -> Reason:
    """Return the runtime's own reason where it fits its exit code, else the code's meaning."""
    klass = EXPLANATIONS[Reason(word)].klass if word in Reason.__members__ else None
    if code == EXIT_TRY_AGAIN:
        fits = klass in (Class.ENVIRONMENT, Class.CURED_OUTSIDE)
        return Reason(word) if fits else Reason.HubUnavailable
    fallback = Reason.ConfigError if code == EXIT_CONFIG else Reason.ModelLoadFailed
    return Reason(word) if klass is Class.BAD_REVISION else fallback


def read_inspection(container: Container) -> Inspection | None:
    """Return the report of a finished inspection, or None when it cannot be read."""
    try:
        return Inspection.model_validate(container.report())
    except pydantic.ValidationError:
        return None


def find_inspection(observed: Observed, revision: Revision) -> Inspection | None:
    """Return what the inspect Job of a revision found out, once it has finished."""
    for pod in observed.pods_of(revision, names.ROLE_INSPECT):
        for container in pod.containers:
            if container.exit_code == 0:
                return read_inspection(container)
    return None


def is_job_done(observed: Observed, revision: Revision) -> bool:
    """Say whether the stage Job of a revision has ended well."""
    job = observed.jobs.get(names.stage_job(revision.name))
    return job is not None and job.is_succeeded and not job.is_deleting


def has_reported(
    observed: Observed, revision: Revision, reasons: tuple[Reason, ...], since: datetime.datetime
) -> bool:
    """Say whether a serving pod of a revision ended after `since` with one of the reasons."""
    return any(
        container.report().get("reason") in reasons
        for pod in observed.pods_of(revision)
        for container in pod.containers
        if container.ended_at is not None and container.ended_at > since
    )
