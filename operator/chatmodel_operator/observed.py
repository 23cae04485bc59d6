"""One frozen picture of the cluster, as far as one ChatModel goes.

Built by `cluster.observe` from raw objects, read by everything that decides. Objects with our
labels but another controller are left out: names alone make nothing ours.
"""

import dataclasses
import datetime
import json
from collections.abc import Iterable, Mapping
from typing import Any

import pydantic

from chatmodel_operator import names
from chatmodel_operator.api.chatmodel import ChatModelSpec
from chatmodel_operator.api.chatmodelrevision import (
    FAILED,
    VERIFIED,
    ChatModelRevisionSpec,
    ChatModelRevisionStatus,
)
from chatmodel_operator.api.instanceclass import InstanceClassSpec

Raw = Mapping[str, Any]


def parse_time(text: str | None) -> datetime.datetime | None:
    """Return an aware datetime of an RFC 3339 text, or None for None."""
    return datetime.datetime.fromisoformat(text) if text else None


def format_time(moment: datetime.datetime) -> str:
    """Return RFC 3339 in UTC with whole seconds, as Kubernetes writes times."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclasses.dataclass(frozen=True)
class ChatModel:
    """The object the team wrote; `spec` is None when today's types refuse it: see `invalid`."""

    raw: Raw
    spec: ChatModelSpec | None
    invalid: str = ""

    @property
    def name(self) -> str:
        return str(self.raw["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.raw["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        return str(self.raw["metadata"]["uid"])

    @property
    def generation(self) -> int:
        return int(self.raw["metadata"].get("generation", 1))

    @property
    def is_deleting(self) -> bool:
        return "deletionTimestamp" in self.raw["metadata"]

    @property
    def retry(self) -> str | None:
        return (self.raw["metadata"].get("annotations") or {}).get(names.ANNOTATION_RETRY)


@dataclasses.dataclass(frozen=True, eq=False)
class Revision:
    """A ChatModelRevision; its attempt is open from `startedAt` until `retiredAt`."""

    name: str
    uid: str
    resource_version: str
    spec: ChatModelRevisionSpec
    status: ChatModelRevisionStatus

    @property
    def number(self) -> int:
        return self.spec.number

    @property
    def is_verified(self) -> bool:
        return self.status.verdict == VERIFIED

    @property
    def is_failed(self) -> bool:
        return self.status.verdict == FAILED

    @property
    def is_open(self) -> bool:
        return self.status.started_at is not None and self.status.retired_at is None

    @property
    def is_answered(self) -> bool:
        return self.is_open and self.status.answered_at is not None

    @property
    def is_mock(self) -> bool:
        return self.spec.source.mode == "mock"


@dataclasses.dataclass(frozen=True)
class Container:
    """One container of a pod: what it is doing, and how it last ended."""

    name: str
    is_init: bool
    restarts: int
    is_running: bool
    waiting_reason: str
    waiting_message: str
    exit_code: int | None
    ended_reason: str
    ended_message: str
    ended_at: datetime.datetime | None

    def report(self) -> dict[str, Any]:
        """Return the termination message as JSON object; empty when it is none of ours."""
        try:
            body = json.loads(self.ended_message)
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}


@dataclasses.dataclass(frozen=True)
class Pod:
    """A pod with our labels."""

    name: str
    revision: str
    role: str
    ip: str
    created: datetime.datetime
    is_ready: bool
    are_containers_ready: bool
    is_deleting: bool
    is_disrupted: bool
    unschedulable: str
    containers: tuple[Container, ...]


@dataclasses.dataclass(frozen=True)
class Job:
    """An inspect Job."""

    revision: str
    created: datetime.datetime
    is_deleting: bool
    is_succeeded: bool
    failed_at: datetime.datetime | None


@dataclasses.dataclass(frozen=True)
class Deployment:
    """The Deployment of one revision; `refused` is why the API server takes no pods of it."""

    replicas: int
    refused: str


@dataclasses.dataclass(frozen=True)
class Observed:
    """Everything a pass decides from. `live` holds the raw children by (kind, name)."""

    chatmodel: ChatModel
    instance_class: InstanceClassSpec | None
    class_problem: str
    revisions: tuple[Revision, ...]
    deployments: Mapping[str, Deployment]
    pods: tuple[Pod, ...]
    jobs: Mapping[str, Job]
    selected: str | None
    live: Mapping[tuple[str, str], Raw]

    def find(self, name: str | None) -> Revision | None:
        """Return the revision of that name, if there is one."""
        return next((r for r in self.revisions if r.name == name), None)

    def pods_of(self, revision: Revision, role: str = names.ROLE_SERVE) -> tuple[Pod, ...]:
        """Return the pods of a revision that are not being deleted."""
        return tuple(
            p
            for p in self.pods
            if p.revision == revision.name and p.role == role and not p.is_deleting
        )

    def ready_pods(self, revision: Revision) -> tuple[Pod, ...]:
        """Return the serving pods of a revision that are Ready."""
        return tuple(pod for pod in self.pods_of(revision) if pod.is_ready)


def read_chatmodel(raw: Raw) -> ChatModel:
    """Return the ChatModel; a stored body today's types refuse is a value, not an exception."""
    try:
        return ChatModel(raw, ChatModelSpec.model_validate(raw.get("spec") or {}))
    except pydantic.ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in ("spec", *first["loc"]))
        return ChatModel(raw, None, f"{where}: {first['msg']}")


def read_revision(raw: Raw) -> Revision | None:
    """Return the revision, or None when its body cannot be read any more."""
    meta = raw["metadata"]
    try:
        return Revision(
            name=meta["name"],
            uid=meta["uid"],
            resource_version=meta["resourceVersion"],
            spec=ChatModelRevisionSpec.model_validate(raw.get("spec") or {}),
            status=ChatModelRevisionStatus.model_validate(raw.get("status") or {}),
        )
    except pydantic.ValidationError:
        return None


def read_pod(raw: Raw) -> Pod:
    """Return what matters of a pod."""
    meta, status = raw["metadata"], raw.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled", {})
    created = parse_time(meta["creationTimestamp"])
    assert created is not None
    return Pod(
        name=meta["name"],
        revision=meta["labels"].get(names.LABEL_REVISION, ""),
        role=meta["labels"].get(names.LABEL_ROLE, ""),
        ip=status.get("podIP") or "",
        created=created,
        is_ready=conditions.get("Ready", {}).get("status") == "True",
        are_containers_ready=conditions.get("ContainersReady", {}).get("status") == "True",
        is_deleting="deletionTimestamp" in meta,
        is_disrupted=conditions.get("DisruptionTarget", {}).get("status") == "True",
        unschedulable=scheduled.get("message", "")
        if scheduled.get("reason") == "Unschedulable"
        else "",
        containers=tuple(_containers(status)),
    )


def _containers(status: Raw) -> Iterable[Container]:
    for field, is_init in (("initContainerStatuses", True), ("containerStatuses", False)):
        for entry in status.get(field) or []:
            state = entry.get("state") or {}
            waiting = state.get("waiting") or {}
            ended = (
                state.get("terminated") or (entry.get("lastState") or {}).get("terminated") or {}
            )
            yield Container(
                name=entry["name"],
                is_init=is_init,
                restarts=entry.get("restartCount", 0),
                is_running="running" in state,
                waiting_reason=waiting.get("reason", ""),
                waiting_message=waiting.get("message", ""),
                exit_code=ended.get("exitCode"),
                ended_reason=ended.get("reason", ""),
                ended_message=ended.get("message", ""),
                ended_at=parse_time(ended.get("finishedAt")),
            )


def read_job(raw: Raw) -> Job:
    """Return what matters of an inspect Job."""
    conditions = {
        c["type"]: c
        for c in (raw.get("status") or {}).get("conditions") or []
        if c["status"] == "True"
    }
    failed = conditions.get("Failed", {})
    created = parse_time(raw["metadata"]["creationTimestamp"])
    assert created is not None
    return Job(
        revision=raw["metadata"]["labels"][names.LABEL_REVISION],
        created=created,
        is_deleting="deletionTimestamp" in raw["metadata"],
        is_succeeded="Complete" in conditions,
        failed_at=parse_time(failed.get("lastTransitionTime")),
    )


def read_deployment(raw: Raw) -> Deployment:
    """Return what matters of a revision's Deployment."""
    conditions = (raw.get("status") or {}).get("conditions") or []
    refused = next(
        (
            c["message"]
            for c in conditions
            if c["type"] == "ReplicaFailure" and c["status"] == "True"
        ),
        "",
    )
    return Deployment(replicas=raw["spec"].get("replicas", 1), refused=refused)
