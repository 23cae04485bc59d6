"""Hand-made pictures of the cluster for pure tests: short arguments, the JSON a server would show.

Everything goes through `chatmodel_operator.reading`, so that a test speaks of what
the API server says and not of our own types.
"""

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from chatmodel_operator import names, observed, reading, revision, standing
from chatmodel_operator.api.instanceclass import InstanceClassSpec
from chatmodel_operator.settings import Images, Settings

Body = dict[str, Any]

NOW = datetime.datetime(2026, 3, 1, 12, 0, 0, tzinfo=datetime.UTC)
NAME, NAMESPACE, UID = "triage", "clinic", "c0ffee00-0000-4000-8000-000000000001"
COMMIT = "c" * 40
INSPECTION: Body = {
    "commit": COMMIT,
    "files": ["config.json", "model.safetensors"],
    "totalBytes": 8_000_000_000,
    "weightBytes": 3_000_000_000,
    "kvBytesPerToken": 147_456,
    "formats": ["safetensors"],
    "chatTemplate": True,
    "thinking": True,
}
CLASS = InstanceClassSpec.model_validate(
    {
        "resources": {
            "requests": {"cpu": "1500m", "memory": "7Gi"},
            "limits": {"memory": "7Gi"},
        },
        "nodeSelector": {"pool": "models"},
        "tolerations": [{"key": "models", "operator": "Exists", "effect": "NoSchedule"}],
    }
)
SETTINGS = Settings(images=Images(mock="registry.test/mock:1", transformers="registry.test/cpu:1"))


def at(seconds: float) -> str:
    """Return the time so many seconds after NOW, as Kubernetes writes it."""
    return observed.format_time(NOW + datetime.timedelta(seconds=seconds))


def chatmodel(
    *, at_generation: int = 1, status: Body | None = None, retry: str | None = None, **spec: Any
) -> observed.ChatModel:
    """Return a ChatModel, of mode mock unless the spec says another."""
    meta: Body = {"name": NAME, "namespace": NAMESPACE, "uid": UID, "generation": at_generation}
    if retry is not None:
        meta["annotations"] = {names.ANNOTATION_RETRY: retry}
    body: Body = {"metadata": meta, "spec": {"mode": "mock"} | spec}
    return reading.read_chatmodel(body | ({"status": status} if status else {}))


def make_revision(
    number: int = 1, *, status: Body | None = None, filled: Body | None = None, **spec: Any
) -> observed.Revision:
    """Return the revision that stands for a ChatModel's spec; `filled` are its set-once fields."""
    wanted = chatmodel(**spec).spec
    assert wanted is not None, "the spec of a hand-made revision is not valid"
    body = {
        "chatModelName": NAME,
        "number": number,
        "source": revision.source_of(wanted).dump(),
        "instanceClass": CLASS.dump(),
        "template": {"spec": {}},
    }
    name = f"{NAME}-{number:08d}"
    found = reading.read_revision(
        {
            "metadata": {
                "name": name,
                "uid": f"uid-{number}",
                "resourceVersion": "1",
                "creationTimestamp": at(-60),
            },
            "spec": body | (filled or {}),
            "status": status or {},
        }
    )
    assert found is not None
    return found


def serving(*, since: float = -600, **more: Any) -> Body:
    """Return the status of a revision that has served for a while and stood its bake."""
    return {
        "verdict": "Verified",
        "startedAt": at(since - 60),
        "progressAt": at(since - 60),
        "answeredAt": at(since - 10),
        "servingAt": at(since),
        "verifiedAt": at(since + 70),
    } | more


def failed(reason: str = "CrashLooping", *, when: float = -30, **more: Any) -> Body:
    """Return the status of a revision that was found bad."""
    return {
        "verdict": "Failed",
        "reason": reason,
        "message": "3 restarts",
        "startedAt": at(when - 60),
        "failedAt": at(when),
        "retiredAt": at(when),
    } | more


def raw_pod(
    which: observed.Revision,
    *,
    role: str = names.ROLE_SERVE,
    name: str = "pod-1",
    created: float = -60,
    ready: bool = False,
    conditions: Iterable[Body] = (),
    containers: Iterable[Body] = (),
    init: Iterable[Body] = (),
    **meta: Any,
) -> Body:
    """Return a pod as the API server shows it."""
    seen = [{"type": "Ready", "status": "True" if ready else "False"}, *conditions]
    return {
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "creationTimestamp": at(created),
            "labels": names.child_labels(NAME, which.name, role),
            **meta,
        },
        "status": {
            "podIP": "10.0.0.7",
            "conditions": seen,
            "initContainerStatuses": list(init),
            "containerStatuses": list(containers),
        },
    }


def raw_container(
    name: str = names.CONTAINER_SERVE,
    *,
    restarts: int = 0,
    state: Body | None = None,
    last: Body | None = None,
) -> Body:
    """Return a container status."""
    return {
        "name": name,
        "restartCount": restarts,
        "state": {"running": {"startedAt": at(-50)}} if state is None else state,
        "lastState": last or {},
    }


def waiting(reason: str, message: str = "") -> Body:
    return {"waiting": {"reason": reason, "message": message}}


def terminated(code: int, message: str = "", *, reason: str = "Error", when: float = -20) -> Body:
    ended = {"exitCode": code, "reason": reason, "message": message, "finishedAt": at(when)}
    return {"terminated": ended}


def ready_pods(which: observed.Revision, count: int) -> list[Body]:
    return [
        raw_pod(which, name=f"{which.name}-{n}", ready=True, containers=[raw_container()])
        for n in range(count)
    ]


def picture(
    model: observed.ChatModel,
    *revisions: observed.Revision,
    selected: observed.Revision | None = None,
    pods: Iterable[Body] = (),
    deployments: Mapping[str, observed.Deployment] | None = None,
) -> observed.Observed:
    """Return a picture of the cluster."""
    return observed.Observed(
        chatmodel=model,
        instance_class=CLASS,
        class_problem="",
        revisions=revisions,
        deployments=deployments or {},
        pods=tuple(reading.read_pod(pod) for pod in pods),
        jobs={},
        claim=None,
        selected=selected.name if selected is not None else None,
        live={},
    )


def cast(seen: observed.Observed, target: observed.Revision) -> standing.Standing:
    """Return who stands where, with as many replicas as the ChatModel asks for."""
    return standing.stand(seen, target)
