"""One frozen picture of the cluster, as far as one ChatModel goes.

Built by `reading` from raw objects, used by everything that decides. Objects with our
labels but another controller are left out: names alone make nothing ours.
"""

import dataclasses
import datetime
import functools
import json
from collections.abc import Mapping
from typing import Any

from chatmodel_operator import names, revision
from chatmodel_operator.api.chatmodel import ChatModelSpec
from chatmodel_operator.api.chatmodelrevision import (
    FAILED,
    VERIFIED,
    ChatModelRevisionSpec,
    ChatModelRevisionStatus,
    Source,
)
from chatmodel_operator.api.instanceclass import InstanceClassSpec

Raw = Mapping[str, Any]


def parse_time(text: str | None) -> datetime.datetime | None:
    """Return an aware datetime of an RFC 3339 text, or None for None."""
    return datetime.datetime.fromisoformat(text) if text else None


def format_time(moment: datetime.datetime) -> str:
    """Return RFC 3339 in UTC with whole seconds, as Kubernetes writes times."""
    utc = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    return utc.isoformat(timespec="seconds") + "Z"


def format_label_time(text: str | None) -> str | None:
    """Return a time in ISO 8601's basic format, which a label can have; None for None."""
    moment = parse_time(text)
    return moment.astimezone(datetime.UTC).strftime("%Y%m%dT%H%M%SZ") if moment else None


@dataclasses.dataclass(frozen=True)
class ChatModel:
    """The object the team wrote; `spec` is None when today's types refuse it: see `invalid`."""

    raw: Raw
    spec: ChatModelSpec | None
    invalid: str = ""

    @functools.cached_property
    def name(self) -> str:
        return str(self.raw["metadata"]["name"])

    @functools.cached_property
    def namespace(self) -> str:
        return str(self.raw["metadata"]["namespace"])

    @functools.cached_property
    def uid(self) -> str:
        return str(self.raw["metadata"]["uid"])

    @functools.cached_property
    def source(self) -> Source:
        """What its spec asks to be served; asked only of a spec that can be read."""
        assert self.spec is not None
        return revision.source_of(self.spec)

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
    """A ChatModelRevision; its attempt is open from `startedAt` until `retiredAt`.

    The first attempt begins with the object: as long as nothing is recorded it is `is_blank`, and
    `status` has the times of its making.
    """

    name: str
    uid: str
    resource_version: str
    spec: ChatModelRevisionSpec
    status: ChatModelRevisionStatus
    is_blank: bool = False

    @property
    def number(self) -> int:
        return self.spec.number

    @functools.cached_property
    def source_text(self) -> str:
        """Its source as JSON: equal for equal sources."""
        return json.dumps(self.spec.source.dump(), sort_keys=True)

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

    @property
    def is_embedded(self) -> bool:
        return self.spec.source.cache_strategy == "Embedded"

    @property
    def is_persistent(self) -> bool:
        return self.spec.source.cache_strategy == "Persistent"


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

    @property
    def is_awaited(self) -> bool:
        """Whether it has not begun, and nothing is said against it."""
        begun = self.is_running or self.exit_code is not None
        return not begun and self.waiting_reason in ("", "ContainerCreating", "PodInitializing")

    def report(self) -> dict[str, Any]:
        """Return the termination message as JSON object; empty when it is none of ours."""
        try:
            body = json.loads(self.ended_message)
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}


@dataclasses.dataclass(frozen=True)
class Pod:
    """A pod with our labels; `grace_seconds` is what one that is being deleted has to end.

    One `is_starting` that has a node and is pending; `trouble` is what its events say then.
    """

    name: str
    uid: str
    revision: str
    role: str
    ip: str
    created: datetime.datetime
    is_ready: bool
    are_containers_ready: bool
    is_deleting: bool
    grace_seconds: int
    is_disrupted: bool
    unschedulable: str
    unschedulable_since: datetime.datetime | None
    is_nominated: bool
    containers: tuple[Container, ...]
    has_node: bool = False
    is_starting: bool = False
    trouble: str = ""

    @property
    def is_held_up(self) -> bool:
        """Whether no container has begun on its node, and none says why."""
        return self.is_starting and all(c.is_awaited for c in self.containers)


@dataclasses.dataclass(frozen=True)
class Job:
    """An inspect or stage Job."""

    revision: str
    role: str
    created: datetime.datetime
    is_deleting: bool
    is_succeeded: bool
    failed_at: datetime.datetime | None


@dataclasses.dataclass(frozen=True)
class Stamp:
    """A verdict and when it was reached; of a bad one also why."""

    verdict: str
    at: str
    reason: str | None = None
    message: str | None = None


@dataclasses.dataclass(frozen=True)
class Deployment:
    """The Deployment of one revision; `refused` is why the API server takes no pods of it."""

    replicas: int
    refused: str
    refused_since: datetime.datetime | None = None
    # What it says of its revision, for one that was lost.
    stamp: Stamp | None = None
    number: int | None = None
    commit: str | None = None
    files: tuple[str, ...] | None = None
    is_deleting: bool = False
    source: Source | None = None
    template: Raw | None = None


@dataclasses.dataclass(frozen=True)
class Claim:
    """The PersistentVolumeClaim; `trouble` is what its events say while it is not bound."""

    uid: str
    is_bound: bool
    is_lost: bool
    is_deleting: bool
    requested_bytes: int
    capacity_bytes: int
    trouble: str


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
    claim: Claim | None
    selected: str | None
    live: Mapping[tuple[str, str], Raw]

    @property
    def stamps(self) -> Mapping[str, Stamp]:
        """The verdict of each revision, as its Deployment says."""
        return {n: d.stamp for n, d in self.deployments.items() if d.stamp is not None}

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
