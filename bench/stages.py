"""A ChatModel of its own under traffic, for `rollouts`: edits, waits, switches seen, clients.

Everything goes through the API server and kubectl, as a user would.
"""

import asyncio
import dataclasses
import json
import pathlib
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import api

ROOT = pathlib.Path(__file__).parents[1]
NAME = "triage"
REVISION = "carepath.ai/revision"
PATIENCE = 240


class Failed(Exception):
    """What should have happened did not."""


@dataclasses.dataclass
class Stage:
    """One namespace with one ChatModel; `switches` is filled by a watch of its Service."""

    client: api.Api
    namespace: str
    switches: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    ended: dict[str, float] = dataclasses.field(default_factory=dict)  # revision → seen to end
    token: int = 0

    def kubectl(self, *words: str, text: str | None = None) -> str:
        """Run kubectl. Raises `Failed` with its words."""
        command = ("kubectl", "-n", self.namespace, *words)
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"{' '.join(command[:6])}: {done.stderr.strip()}")
        return done.stdout

    async def chatmodel(self) -> api.Body:
        """Return the ChatModel."""
        return await self.client.request("GET", api.path_of("ChatModel", self.namespace, NAME))

    async def patch(self, **spec: object) -> None:
        """Patch the ChatModel's spec."""
        path = api.path_of("ChatModel", self.namespace, NAME)
        await self.client.request("PATCH", path, {"spec": spec}, api.MERGE)

    async def wait(self, reason: str) -> api.Body:
        """Wait until Ready has a reason for the newest generation. Raises `Failed`."""

        def holds(body: api.Body) -> bool:
            conditions = body.get("status", {}).get("conditions", [])
            ready = next((c for c in conditions if c["type"] == "Ready"), {})
            fresh = ready.get("observedGeneration") == body["metadata"]["generation"]
            return fresh and ready["reason"] == reason

        return await self.wait_until(holds, f"Ready to be {reason}")

    async def wait_until(self, holds: Callable[[api.Body], bool], what: str) -> api.Body:
        """Wait until the ChatModel is as wished. Raises `Failed`."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if holds(body := await self.chatmodel()):
                return body
            await asyncio.sleep(0.1)
        raise Failed(f"waited in vain for {what}: {json.dumps(body.get('status'))}")

    async def next_revision(self) -> str:
        """Ask for the same model anew, as a new revision; return its name."""
        self.token += 1
        rollout = {"restartToken": f"round-{self.token}"}
        before = (await self.chatmodel())["status"]["target"]["revision"]
        await self.patch(rollout=rollout)
        body = await self.wait_until(
            lambda b: b["status"]["target"]["revision"] != before, "a new target"
        )
        return str(body["status"]["target"]["revision"])

    async def watch_switches(self) -> None:
        """Note when the Service's selector was seen to move, and to which revision."""
        async for _, body in self.client.watch("Service"):
            meta = body["metadata"]
            if (meta["namespace"], meta["name"]) != (self.namespace, NAME):
                continue
            selected = body["spec"]["selector"][REVISION]
            if not self.switches or self.switches[-1][1] != selected:
                self.switches.append((time.time(), selected))

    async def watch_ends(self) -> None:
        """Note when a serving container of each revision was first seen to have ended."""
        async for _, body in self.client.watch("Pod", f"carepath.ai/chatmodel={NAME}"):
            meta = body["metadata"]
            for status in body["status"].get("containerStatuses", []):
                over = status["restartCount"] or "terminated" in status["state"]
                if meta["namespace"] == self.namespace and status["name"] == "serve" and over:
                    self.ended.setdefault(meta["labels"][REVISION], time.time())

    async def switch_to(self, revision: str, since: float = 0.0) -> float:
        """Wait until the Service selects a revision; return when (time.time). Raises `Failed`."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for moment, selected in reversed(self.switches):
                if selected == revision and moment >= since:
                    return moment
            await asyncio.sleep(0.02)
        raise Failed(f"traffic was not moved to {revision}")


@asynccontextmanager
async def stage(client: api.Api, **spec: object) -> AsyncIterator[Stage]:
    """Make a namespace with a ChatModel that serves; take it away at the end."""
    namespace = f"bench-{time.time_ns() // 1000:x}"
    await client.text("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    here = Stage(client, namespace)
    watching = [asyncio.create_task(w) for w in (here.watch_switches(), here.watch_ends())]
    try:
        base = {"mode": "qwen", "rollout": {"bakeSeconds": 2}}
        body = {
            "apiVersion": api.API_VERSIONS["ChatModel"],
            "kind": "ChatModel",
            "metadata": {"name": NAME},
            "spec": base | spec,
        }
        await client.text("POST", api.path_of("ChatModel", namespace), body)
        await here.wait("Serving")
        yield here
    finally:
        for task in watching:
            task.cancel()
        await client.text("DELETE", api.path_of("ChatModel", namespace, NAME))
        await client.text("DELETE", f"/api/v1/namespaces/{namespace}")


class Clients:
    """Clients in a pod that ask all the time; `summary` is what they counted."""

    def __init__(self, here: Stage, rate: float) -> None:
        self._here = here
        self._rate = rate
        self.summary: api.Body = {}

    async def __aenter__(self) -> "Clients":
        here = self._here
        script = str(ROOT / "tests/support/traffic.py")
        here.kubectl("create", "configmap", "clients", f"--from-file=traffic.py={script}")
        here.kubectl("apply", "-f", "-", text=json.dumps(self._pod()))
        here.kubectl("wait", "--for=condition=Ready", "pod/clients", "--timeout=60s")
        return self

    async def __aexit__(self, *_: object) -> None:
        here = self._here
        here.kubectl("exec", "clients", "--", "sh", "-c", "kill -TERM 1")
        done = "--for=jsonpath={.status.phase}=Succeeded"
        here.kubectl("wait", done, "pod/clients", "--timeout=90s")
        self.summary = json.loads(here.kubectl("logs", "clients").strip().splitlines()[-1])
        here.kubectl("delete", "pod/clients", "configmap/clients")

    def _pod(self) -> api.Body:
        key = {"secretKeyRef": {"name": f"{NAME}-api-key", "key": "api-key"}}
        words = ["python3", "-u", "/client/traffic.py", f"http://{NAME}:8002", "--workers", "8"]
        words += ["--wait", "30"]
        container = {
            "name": "clients",
            "image": "localhost/chatmodel-hub:dev",
            "imagePullPolicy": "IfNotPresent",
            "command": [*words, "--rate", str(self._rate), "--timeout", "120"],
            "env": [{"name": "CHATMODEL_API_KEY", "valueFrom": key}],
            "volumeMounts": [{"name": "client", "mountPath": "/client"}],
        }
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "clients"},
            "spec": {
                "restartPolicy": "Never",
                "containers": [container],
                "volumes": [{"name": "client", "configMap": {"name": "clients"}}],
            },
        }
