"""A ChatModel with a cache on the real node: asked through its Service, looked at from inside."""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import models
from kube import Body, Kube, Refused, wait_for

EMBEDDED_IMAGE = "localhost/chatmodel-runtime:embedded"
SERVE = "carepath.ai/chatmodel=triage,carepath.ai/role=serve"
CLAIM = "triage-models"
ASK = """
import json, urllib.request
body = json.dumps({"patient_mrn": "MRN-001", "query": "What are my current medications?"})
headers = {"Content-Type": "application/json"}
request = urllib.request.Request("http://triage:8002/triage", body.encode(), headers)
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""
CLIENT: Body = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "client"},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [
            {
                "name": "client",
                "image": "localhost/chatmodel-hub:dev",
                "imagePullPolicy": "IfNotPresent",
                "command": ["python3", "-c", "import signal; signal.pause()"],
            }
        ],
    },
}
QWEN: Body = {"mode": "qwen", "model": {"id": None}}
TWIN: Body = {"mode": "huggingface", "model": {"id": models.TWIN}}
WRONG: Body = {"mode": "huggingface", "model": {"id": models.WRONG_SHAPES}}
SECONDS = 150
HASHES = """
import hashlib, json, pathlib
files = (p for p in pathlib.Path("/models").rglob("*") if p.is_file())
print(json.dumps({str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}))
"""


def spec_of(strategy: str, **more: Any) -> Body:
    """Return a spec that serves the stand-in; a token comes along, for whoever calls the hub."""
    return {
        "mode": "qwen",
        "model": {"tokenSecretRef": {"name": "hub-token"}},
        "cache": {"strategy": strategy},
        "auth": {"mode": "None"},
        "patientContext": {"source": "Demo"},
        "rollout": {"bakeSeconds": 1},
        **more,
    }


class Cached:
    """The ChatModel `triage` of one namespace, and a pod there that asks it."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        kube.apply(CLIENT)

    def serve(self, change: Body, model_id: str | None) -> Body:
        """Change the spec and wait until that model serves; return the status."""
        self.kube.patch("triage", change)
        self.kube.wait_for_reason("triage", "Serving", SECONDS)
        found = self.status()
        assert found["serving"].get("modelID") == model_id
        return found

    def status(self) -> Body:
        return dict(self.kube.get("chatmodel", "triage")["status"])

    def answer(self) -> Body:
        """Ask through the Service, from another pod."""
        self.kube.run("wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
        return dict(json.loads(self.kube.run("exec", "client", "--", "python3", "-c", ASK)))

    def answer_of(self, model_id: str) -> Body:
        """Ask until that model answers: a node follows its Services about once a second."""
        answers: list[Body] = []

        def holds() -> bool:
            answers.append(self.answer())
            return bool(answers[-1]["model"] == model_id)

        wait_for(holds, f"an answer of {model_id}", 10)
        return answers[-1]

    def pods(self) -> list[Body]:
        """Return the serving revision's pods that are not on their way out."""
        name = self.status()["serving"]["revision"]
        found = self.kube.get("pods", "-l", f"{SERVE},carepath.ai/revision={name}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def python(self, code: str) -> str:
        """Run Python in the serving container."""
        pod = self.pods()[0]["metadata"]["name"]
        return self.kube.run("exec", pod, "-c", "serve", "--", "/opt/venv/bin/python", "-c", code)

    def files(self) -> dict[str, str]:
        """Return path and sha256 of everything under /models, as serving pods see it."""
        return dict(json.loads(self.python(HASHES)))

    def lose_pod(self) -> None:
        """Delete the serving pod, and wait until another one is Ready."""
        old = self.pods()[0]["metadata"]
        self.kube.run("delete", "pod", old["name"], "--wait=false")
        wait_for(lambda: self.has_another_ready_pod(old["uid"]), "another Ready pod", SECONDS)

    def has_another_ready_pod(self, uid: str) -> bool:
        return any(pod["metadata"]["uid"] != uid and is_ready(pod) for pod in self.pods())

    def reports(self) -> set[str]:
        """Return the reasons that serving pods have ended with."""
        found = set()
        for pod in self.pods():
            for status in pod["status"].get("containerStatuses", []):
                for state in (status["state"], status.get("lastState", {})):
                    with contextlib.suppress(ValueError):
                        text = state.get("terminated", {}).get("message", "")
                        found.add(str(json.loads(text)["reason"]))
        return found


def is_ready(pod: Body) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


@contextlib.contextmanager
def hub_away(kube: Kube) -> Iterator[None]:
    """Take the hub mirror away for a while."""
    hub = kube.inside("hub")

    def pods() -> list[Body]:
        return list(hub.get("pods", "-l", "app=hub")["items"])

    hub.run("scale", "deployment", "hub", "--replicas=0")
    wait_for(lambda: not pods(), "the hub to be gone")
    try:
        yield
    finally:
        hub.run("scale", "deployment", "hub", "--replicas=1")
        hub.run("rollout", "status", "deployment/hub", "--timeout=60s")


def asked_for_weights(kube: Kube) -> int:
    """Return how often weights were asked of the hub mirror since it started."""
    path = "/api/v1/namespaces/hub/services/hub:80/proxy/_admin/requests"
    requests = json.loads(kube.run("get", "--raw", path))
    return sum("resolve" in r["path"] and "safetensors" in r["path"] for r in requests)


def is_refused(act: Callable[[], object], words: str) -> bool:
    """Say whether kubectl refuses, in these words."""
    try:
        act()
    except Refused as refusal:
        return words in str(refusal)
    return False


def fill(folder: pathlib.Path) -> None:
    """Write to a file system until nothing more goes on it."""
    with contextlib.suppress(OSError), (folder / "filler").open("wb", buffering=0) as handle:
        while handle.write(bytes(65536)):
            pass
