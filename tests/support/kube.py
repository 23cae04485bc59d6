"""kubectl for tests: JSON in, JSON out, and waiting for a condition instead of sleeping."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from rest import Rest, can_connect

SYSTEM = "chatmodel-system"
ROOT = pathlib.Path(__file__).parents[2]
Body = dict[str, Any]
LIST = {"apiVersion": "v1", "kind": "List"}


def devcluster(*words: str) -> str:
    """Run a devcluster command and return its output."""
    command = [sys.executable, "-m", "devcluster", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Refused(Exception):
    """kubectl ended with an error; the text is what a user reads."""


class Kube:
    """One cluster, one namespace."""

    def __init__(self, kubeconfig: str, bin_folder: str, namespace: str = "default") -> None:
        path = f"{os.environ['PATH']}{os.pathsep}{bin_folder}"
        self.env = {**os.environ, "KUBECONFIG": kubeconfig, "PATH": path}
        self.namespace = namespace
        self.kubeconfig = kubeconfig
        self._bin = bin_folder

    def inside(self, namespace: str) -> "Kube":
        """Return the same cluster with another namespace."""
        return Kube(self.kubeconfig, self._bin, namespace)

    def run(self, *words: str, text: str | None = None) -> str:
        """Run kubectl. Raises `Refused`."""
        command = ["kubectl", "-n", self.namespace, *words]
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, env=self.env
        )
        if done.returncode:
            raise Refused(done.stderr.strip())
        return done.stdout

    def get(self, *words: str) -> Body:
        """Return an object or list as JSON."""
        return dict(json.loads(self.run("get", *words, "-o", "json")))

    def apply(self, *bodies: Body) -> None:
        """Apply objects."""
        self.run("apply", "-f", "-", text=json.dumps({**LIST, "items": bodies}))

    def patch(self, name: str, spec: Body) -> None:
        """Patch a ChatModel's spec."""
        body = json.dumps({"spec": spec})
        self.run("patch", "chatmodel", name, "--type=merge", "-p", body)

    def apply_status(self, kind: str, name: str, status: Body) -> None:
        """Give an object a status."""
        body = json.dumps({"status": status})
        self.run("patch", kind, name, "--subresource=status", "--type=merge", "-p", body)

    def ready(self, name: str) -> Body:
        """Return the Ready condition, once it speaks of the newest generation; else {}."""
        return _ready_of(self.get("chatmodel", name))

    def wait_for_reason(self, name: str, reason: str, seconds: float = 90) -> Body:
        """Wait until Ready has a reason, and return the condition."""
        seen: list[str] = []
        with self._asking(name) as ask:

            def holds() -> bool:
                word = str(_ready_of(ask()).get("reason", ""))
                if word and (not seen or seen[-1] != word):
                    seen.append(word)
                return word == reason

            try:
                wait_for(holds, f"{name} to be {reason}", seconds)
            except AssertionError as error:
                said = _ready_of(ask()).get("message", "")
                raise AssertionError(f"{error}; it was {seen}: {said}") from None
            return _ready_of(ask())

    @contextlib.contextmanager
    def _asking(self, name: str) -> Iterator[Callable[[], Body]]:
        """Yield what returns a ChatModel, at a hundredth of a kubectl where that can be had."""
        if not can_connect(self.kubeconfig):
            yield lambda: self.get("chatmodel", name)
            return
        with contextlib.closing(Rest(self.kubeconfig, self.namespace)) as rest:
            yield lambda: rest.get("ChatModel", name)


def _ready_of(body: Body) -> Body:
    for condition in body.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready":
            fresh = condition["observedGeneration"] == body["metadata"]["generation"]
            return dict(condition) if fresh else {}
    return {}


def wait_for(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until a condition holds, or fail saying what was waited for."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.2)


def random_name(prefix: str) -> str:
    """Return a fresh name for a namespace."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"


def chatmodel(name: str = "triage", **spec: Any) -> Body:
    """Return a ChatModel."""
    return {
        "apiVersion": "carepath.ai/v1alpha1",
        "kind": "ChatModel",
        "metadata": {"name": name},
        "spec": spec,
    }


@contextlib.contextmanager
def without_installed_operator(kube: Kube) -> Iterator[None]:
    """Have the operator that runs in the cluster, if there is one, stand aside."""
    system = kube.inside(SYSTEM)
    found = system.run(
        "get", "deployment", "chatmodel-operator", "--ignore-not-found", "-o", "name"
    )
    if found:
        system.run("scale", "deployment/chatmodel-operator", "--replicas=0")
        system.run("wait", "--for=delete", "pods", "--all", "--timeout=60s")
    yield
    if found:
        system.run("scale", "deployment/chatmodel-operator", "--replicas=1")
