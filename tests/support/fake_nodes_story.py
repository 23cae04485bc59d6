"""ChatModels for fake nodes."""

import datetime
import json
from collections.abc import Callable
from typing import Any

from kube import Body, Kube, chatmodel, wait_for
from oracles import canonical_end

CLASS = "fake"


def good(name: str, **spec: Any) -> Body:
    """Return a ChatModel that is good unless `spec` says otherwise."""
    body: dict[str, Any] = {
        "mode": "huggingface",
        "model": {"id": "demo/good"},
        "instanceClassName": CLASS,
        "rollout": {"bakeSeconds": 1},
    }
    return chatmodel(name, **(body | spec))


def instance_class(name: str, cpu: str = "100m", **spec: Any) -> Body:
    """Return a class of the fake nodes, unless `spec` says otherwise."""
    return {
        "apiVersion": "carepath.ai/v1alpha1",
        "kind": "InstanceClass",
        "metadata": {"name": name},
        "spec": {
            "resources": {"requests": {"cpu": cpu}, "limits": {"memory": "1Gi"}},
            "nodeSelector": {"type": "fake"},
            "tolerations": [{"key": "fake", "operator": "Exists"}],
            **spec,
        },
    }


def start_good(kube: Kube, name: str) -> None:
    """Have a good model serve."""
    kube.apply(good(name))
    kube.wait_for_reason(name, "Serving", 120)


def tell(
    kube: Kube,
    name: str = "story",
    between: Callable[[], object] = lambda: None,
    patience: float = 150,
) -> Body:
    """Have a good model serve and a bad one refused, and return the canonical end.

    `between` is called when the good one serves and before the bad one is asked for, which may take
    `patience` seconds.
    """
    start_good(kube, name)
    between()
    kube.patch(name, {"model": {"id": "demo/load-fail"}})
    kube.wait_for_reason(name, "RolledBack", patience)
    wait_for(lambda: len(serving_pods(kube, name)) == 1, "the refused pods to go")
    return canonical_end(kube, name)


def candidate_pod(kube: Kube, name: str) -> str:
    """Return the one pod of a ChatModel's target, once it runs."""
    found: list[str] = []

    def is_there() -> bool:
        target = kube.get("chatmodel", name)["status"].get("target") or {}
        selector = f"carepath.ai/role=serve,carepath.ai/revision={target.get('revision')}"
        pods = kube.get("pods", "-l", selector)["items"]
        found[:] = [p["metadata"]["name"] for p in pods if p["status"].get("containerStatuses")]
        return len(found) == 1

    wait_for(is_there, f"a pod of {name}'s target", 90)
    return found[0]


def show(kube: Kube, pod: str, *, ready: bool = False, alive: bool = False, **seen: Any) -> None:
    """Have a pod's status say something else; kwok leaves it at that.

    `ready` and `alive` are the conditions Ready and ContainersReady; `seen` is merged into the
    status of the serving container, or of the first init container with `init`.
    """
    body = kube.get("pod", pod)["status"]
    init = seen.pop("init", None)
    serving = body["containerStatuses"][0] | {"ready": alive or ready}
    if seen:
        serving = {k: v for k, v in serving.items() if k not in ("state", "lastState")} | seen
    status: Body = {"containerStatuses": [serving]}
    if init is not None:
        status["initContainerStatuses"] = [body["initContainerStatuses"][0] | init]
    is_true = {"Ready": ready, "ContainersReady": alive or ready}
    status["conditions"] = [
        c | {"status": str(is_true[c["type"]])} if c["type"] in is_true else c
        for c in body["conditions"]
    ]
    text = json.dumps({"status": status})
    kube.run("patch", "pod", pod, "--subresource=status", "--type=merge", "-p", text)


def ended(code: int, reason: str = "Error", report: str = "", at: str = "") -> Body:
    """Return the state of a container that ended, by default now."""
    clock = datetime.datetime.now(datetime.UTC)  # noqa: TID251 - a kubelet's clock
    now = clock.strftime("%Y-%m-%dT%H:%M:%SZ")
    message = json.dumps({"reason": report, "message": f"as told: {report}"}) if report else ""
    end = {"exitCode": code, "reason": reason, "message": message, "finishedAt": at or now}
    return {"terminated": end | {"startedAt": at or now}}


def waiting(reason: str, message: str) -> Body:
    """Return the state of a container that waits."""
    return {"waiting": {"reason": reason, "message": message}}


def serving_pods(kube: Kube, name: str) -> list[str]:
    """Return the serving pods of a ChatModel, as `pod/NAME`."""
    selector = f"carepath.ai/chatmodel={name},carepath.ai/role=serve"
    return kube.run("get", "pods", "-l", selector, "-o", "name").split()
