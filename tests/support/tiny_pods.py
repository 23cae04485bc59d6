"""What becomes of the pods of `tiny_world`: the kubelet's and the scheduler's words.

Pure. Model ids steer it: load-fail, crash, oom, not-found, bad-verify, never-ready, dies-in-bake,
hub-down, gguf, onnx, huge, giant.
"""

import dataclasses
import functools
import json
from typing import Any

from chatmodel_operator import names

Raw = dict[str, Any]
COMMIT = "c" * 40
PLACED = {"type": "PodScheduled", "status": "True"}
ENDINGS = {
    "load-fail": (65, "Error", '{"reason": "ModelLoadFailed", "message": "no such tensor"}', 1),
    "crash": (70, "Error", '{"reason": "Crash", "message": "ValueError"}', 3),
    "oom": (137, "OOMKilled", "", 1),
}


@dataclasses.dataclass(frozen=True)
class Task:
    """What a pod is there for."""

    command: str
    model: str
    revision: str


@functools.lru_cache(4096)
def _read(text: str) -> Task:
    config = json.loads(text)
    return Task(config["command"], str(config.get("modelID")), config["revision"])


def task_of(pod: Raw) -> Task:
    """Return what the runtime's configuration tells a pod to do."""
    env = pod["spec"]["containers"][0]["env"]
    return _read(next(e["value"] for e in env if e["name"] == names.ENV_CONFIG))


def outcome(task: Task, hazards: frozenset[str], dies: bool, at: str) -> Raw:
    """Return the status that a placed pod comes to."""
    if task.command == "inspect":
        return _inspected(task.model, hazards)
    if task.command == "stage":
        ended = {"exitCode": 0, "message": "{}"}
        return _only(names.CONTAINER_STAGE, {"terminated": ended})
    spoilt = any(h.removeprefix("spoilt ") in task.model for h in hazards if "spoilt" in h)
    word = "oom" if dies else next((w for w in ENDINGS if w in task.model), None)
    if word is None and spoilt:
        word = "load-fail"
    return _ended(*ENDINGS[word], at) if word else _running("never-ready" not in task.model)


def downloads(pod: Raw) -> bool:
    """Say whether a pod's weights come from the hub, by an init container of its own."""
    return any(c["name"] == names.CONTAINER_STAGE for c in pod["spec"].get("initContainers", []))


def downloading() -> Raw:
    """Return the status of a pod whose weights are on their way."""
    entry = {"name": names.CONTAINER_STAGE, "state": {"running": {}}}
    conditions = [PLACED, {"type": "Ready", "status": "False"}]
    return {"podIP": "10.0.0.1", "conditions": conditions, "initContainerStatuses": [entry]}


def refusal(at: str) -> Raw:
    """Return the status of a Deployment whose pods the quota refuses."""
    failure = {"type": "ReplicaFailure", "status": "True", "lastTransitionTime": at}
    return {"conditions": [failure | {"message": 'pods "x" is forbidden: exceeded quota: tight'}]}


def unplaced(at: str, *, is_nominated: bool) -> Raw:
    """Return the status of a pod that finds no room."""
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
        "lastTransitionTime": at,
    }
    nominated = {"nominatedNodeName": "node-1"} if is_nominated else {}
    return {"conditions": [condition]} | nominated


def is_ready(pod: Raw) -> bool:
    """Say whether a pod is Ready."""
    conditions = pod["status"].get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def is_placed(pod: Raw) -> bool:
    """Say whether a pod is on a node."""
    conditions = pod["status"].get("conditions") or []
    return not any(c["type"] == "PodScheduled" and c["status"] == "False" for c in conditions)


def is_running(pod: Raw) -> bool:
    """Say whether a pod's container runs."""
    entries = pod["status"].get("containerStatuses") or []
    return any("running" in entry["state"] for entry in entries)


def is_older(pod: Raw, owner: Raw) -> bool:
    """Say whether a pod was there before its owner: then another one of that name made it."""
    return bool(pod["metadata"]["creationTimestamp"] < owner["metadata"]["creationTimestamp"])


def exit_code(pod: Raw) -> int | None:
    """Return the exit code of a pod that has ended."""
    entries = pod["status"].get("containerStatuses") or []
    return entries[0]["state"]["terminated"]["exitCode"] if entries else None


def _inspected(model: str, hazards: frozenset[str]) -> Raw:
    if "not-found" in model:
        ended = {"exitCode": 65, "message": '{"reason": "ModelNotFound", "message": "no such"}'}
    elif "hub-down" in model or "hub-down" in hazards:
        ended = {"exitCode": 75, "message": '{"reason": "HubUnavailable", "message": "503"}'}
    elif "gated" in model:
        ended = {"exitCode": 75, "message": '{"reason": "ModelGated", "message": "403"}'}
    else:
        weights = 10**12 if "huge" in model else 8
        kind = next((f for f in ("gguf", "onnx") if f in model), "safetensors")
        found = {"commit": COMMIT, "totalBytes": 9, "weightBytes": weights, "formats": [kind]}
        found |= {"files": [f"model.{kind}"], "chatTemplate": True, "thinking": False}
        text = json.dumps(found)
        ended = {"exitCode": 0, "message": text}
    return _only(names.CONTAINER_INSPECT, {"terminated": ended})


def _only(name: str, state: Raw) -> Raw:
    return {"containerStatuses": [{"name": name, "state": state}]}


def _ended(code: int, reason: str, message: str, restarts: int, at: str) -> Raw:
    ended = {"exitCode": code, "reason": reason, "message": message, "finishedAt": at}
    entry = {"name": names.CONTAINER_SERVE, "restartCount": restarts}
    entry["state"] = {"terminated": ended}
    conditions = [PLACED, {"type": "Ready", "status": "False"}]
    return {"conditions": conditions, "containerStatuses": [entry]}


def _running(ready: bool) -> Raw:
    entry = {"name": names.CONTAINER_SERVE, "state": {"running": {}}}
    conditions = [PLACED, {"type": "Ready", "status": "True" if ready else "False"}]
    return {"podIP": "10.0.0.1", "conditions": conditions, "containerStatuses": [entry]}
