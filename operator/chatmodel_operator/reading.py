"""Raw objects as the API server sends them → the values of `observed`.

Called by `cluster`. Pure; a stored body that today's types refuse becomes a value, not a crash.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping

import pydantic

from chatmodel_operator import cache, names, quantities
from chatmodel_operator.api.chatmodel import ChatModelSpec
from chatmodel_operator.api.chatmodelrevision import (
    FAILED,
    PENDING,
    VERIFIED,
    ChatModelRevisionSpec,
    ChatModelRevisionStatus,
    Files,
    Source,
)
from chatmodel_operator.classes import choose_class
from chatmodel_operator.observed import (
    ChatModel,
    Claim,
    Container,
    Deployment,
    Job,
    Observed,
    Pod,
    Raw,
    Revision,
    Stamp,
    format_time,
    parse_time,
)

_FILES = pydantic.TypeAdapter(Files)
Live = Mapping[tuple[str, str], Raw]


@cache.once
def read_chatmodel(raw: Raw) -> ChatModel:
    """Return the ChatModel; a stored body today's types refuse is a value, not an exception."""
    try:
        return ChatModel(raw, ChatModelSpec.model_validate(raw.get("spec") or {}))
    except pydantic.ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in ("spec", *first["loc"]))
        return ChatModel(raw, None, f"{where}: {first['msg']}")


@cache.once
def read_revision(raw: Raw) -> Revision | None:
    """Return the revision, or None when its body cannot be read any more."""
    meta, status = raw["metadata"], raw.get("status") or {}
    is_blank = status.get("startedAt") is None
    if is_blank:
        made = meta["creationTimestamp"]
        status = {"verdict": PENDING, "progressAt": made, **status, "startedAt": made}
    try:
        return Revision(
            name=meta["name"],
            uid=meta["uid"],
            resource_version=meta["resourceVersion"],
            spec=ChatModelRevisionSpec.model_validate(raw.get("spec") or {}),
            status=ChatModelRevisionStatus.model_validate(status),
            is_blank=is_blank,
        )
    except pydantic.ValidationError:
        return None


@cache.once
def read_pod(raw: Raw) -> Pod:
    """Return what matters of a pod."""
    meta, status = raw["metadata"], raw.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    scheduled = conditions.get("PodScheduled", {})
    is_unschedulable = scheduled.get("reason") == "Unschedulable"
    created = parse_time(meta["creationTimestamp"])
    assert created is not None
    has_node = scheduled.get("status") == "True"
    return Pod(
        name=meta["name"],
        uid=meta.get("uid", ""),
        revision=meta["labels"].get(names.LABEL_REVISION, ""),
        role=meta["labels"].get(names.LABEL_ROLE, ""),
        ip=status.get("podIP") or "",
        created=created,
        is_ready=conditions.get("Ready", {}).get("status") == "True",
        are_containers_ready=conditions.get("ContainersReady", {}).get("status") == "True",
        is_deleting="deletionTimestamp" in meta,
        grace_seconds=meta.get("deletionGracePeriodSeconds", 0),
        is_disrupted=conditions.get("DisruptionTarget", {}).get("status") == "True",
        unschedulable=scheduled.get("message", "") if is_unschedulable else "",
        unschedulable_since=parse_time(scheduled.get("lastTransitionTime"))
        if is_unschedulable
        else None,
        is_nominated=bool(status.get("nominatedNodeName")),
        containers=tuple(_containers(status)),
        has_node=has_node,
        is_starting=has_node and status.get("phase") == "Pending",
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


@cache.once
def read_job(raw: Raw) -> Job:
    """Return what matters of an inspect or stage Job."""
    labels = raw["metadata"]["labels"]
    conditions = {
        c["type"]: c
        for c in (raw.get("status") or {}).get("conditions") or []
        if c["status"] == "True"
    }
    failed = conditions.get("Failed", {})
    created = parse_time(raw["metadata"]["creationTimestamp"])
    assert created is not None
    return Job(
        revision=labels.get(names.LABEL_REVISION, ""),
        role=labels.get(names.LABEL_ROLE, ""),
        created=created,
        is_deleting="deletionTimestamp" in raw["metadata"],
        is_succeeded="Complete" in conditions,
        failed_at=parse_time(failed.get("lastTransitionTime")),
    )


@cache.once
def read_deployment(raw: Raw) -> Deployment:
    """Return what matters of a revision's Deployment."""
    conditions = (raw.get("status") or {}).get("conditions") or []
    failure: Raw = next(
        (c for c in conditions if c["type"] == "ReplicaFailure" and c["status"] == "True"), {}
    )
    annotations = raw["metadata"].get("annotations") or {}
    number = annotations.get(names.ANNOTATION_NUMBER, "")
    return Deployment(
        stamp=_read_stamp(raw["metadata"].get("labels") or {}, annotations),
        number=int(number) if number.isdigit() else None,
        commit=annotations.get(names.ANNOTATION_COMMIT),
        files=_read_files(annotations.get(names.ANNOTATION_FILES, "")),
        is_deleting="deletionTimestamp" in raw["metadata"],
        source=_read_source(annotations.get(names.ANNOTATION_SOURCE, "")),
        template=raw["spec"].get("template"),
        replicas=raw["spec"].get("replicas", 1),
        refused=failure.get("message", ""),
        refused_since=parse_time(failure.get("lastTransitionTime")),
    )


def _read_stamp(labels: Raw, annotations: Raw) -> Stamp | None:
    verdict = labels.get(names.LABEL_VERDICT)
    try:
        at = parse_time(labels.get(names.LABEL_VERDICT_AT))
    except ValueError:  # somebody's own words
        return None
    if at is None or verdict not in (VERIFIED, FAILED):
        return None
    why = annotations.get(names.ANNOTATION_REASON), annotations.get(names.ANNOTATION_MESSAGE)
    return Stamp(verdict, format_time(at), *(why if verdict == FAILED else ()))


def _read_files(text: str) -> tuple[str, ...] | None:
    try:
        return tuple(_FILES.validate_json(text))
    except pydantic.ValidationError:
        return None


def _read_source(text: str) -> Source | None:
    try:
        return Source.model_validate_json(text)
    except pydantic.ValidationError:
        return None


def is_news(kind: str, before: Raw | None, after: Raw) -> bool:
    """Say whether a change of an object can change what a pass does.

    A Deployment's status moves four times while one pod starts, and the pod's own about as often.
    """
    if before is None or before["metadata"]["uid"] != after["metadata"]["uid"]:
        return True
    if kind == "Pod":
        return read_pod(before) != read_pod(after)
    if kind == "Deployment":
        return _look_of(before) != _look_of(after)
    return True


def _look_of(deployment: Raw) -> tuple[object, ...]:
    """Return all of a Deployment but the counts and times of its status."""
    meta, found = deployment["metadata"], read_deployment(deployment)
    ours = (meta.get(part) for part in ("labels", "annotations", "ownerReferences"))
    return (found.is_deleting, found.refused, found.refused_since, deployment["spec"], *ours)


def _with_trouble(pod: Pod, troubles: Mapping[str, str]) -> Pod:
    text = troubles.get(pod.uid)
    return dataclasses.replace(pod, trouble=text) if text else pod


def _read_claim(raw: Raw, troubles: Mapping[str, str]) -> Claim:
    """Return what matters of the claim."""
    status = raw.get("status") or {}
    requested = (raw["spec"].get("resources") or {}).get("requests") or {}
    return Claim(
        uid=raw["metadata"]["uid"],
        is_bound=status.get("phase") == "Bound",
        is_lost=status.get("phase") == "Lost",
        is_deleting="deletionTimestamp" in raw["metadata"],
        requested_bytes=quantities.parse_bytes(requested.get("storage", "0")),
        capacity_bytes=quantities.parse_bytes((status.get("capacity") or {}).get("storage", "0")),
        trouble=troubles.get(raw["metadata"]["uid"], ""),
    )


def read_picture(
    chatmodel: ChatModel,
    live: Live,
    pods: Iterable[Raw],
    classes: Iterable[Raw],
    troubles: Mapping[str, str] = {},
) -> Observed:
    """Return the frozen picture of one ChatModel; `troubles` is what events say, by uid."""

    of: dict[str, dict[str, Raw]] = collections.defaultdict(dict)
    for (kind, name), item in live.items():
        of[kind][name] = item
    revisions = [read_revision(item) for item in of["ChatModelRevision"].values()]
    service = live.get(("Service", chatmodel.name), {"spec": {}})
    selected = (service["spec"].get("selector") or {}).get(names.LABEL_REVISION)
    claim = live.get(("PersistentVolumeClaim", names.models_claim(chatmodel.name)))
    wish = chatmodel.spec.instance_class_name if chatmodel.spec is not None else None
    chosen, problem = choose_class(wish, list(classes))
    return Observed(
        chatmodel=chatmodel,
        instance_class=chosen,
        class_problem=problem,
        revisions=tuple(sorted((r for r in revisions if r is not None), key=lambda r: r.number)),
        deployments={name: read_deployment(item) for name, item in of["Deployment"].items()},
        pods=tuple(_with_trouble(read_pod(item), troubles) for item in pods),
        jobs={name: read_job(item) for name, item in of["Job"].items()},
        claim=_read_claim(claim, troubles) if claim is not None else None,
        selected=None if selected == names.NO_REVISION else selected,
        live=live,
    )
