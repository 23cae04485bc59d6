"""The cluster made ready for a measurement, ChatModels made and unmade, and the quiet in between.

Used by `operators` and `idle`, inside node 1's network namespace (`python3 -m devcluster run`).
What is measured logs in as a ServiceAccount of its own, whose flow schema counts its requests.
"""

import asyncio
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator

import api
import meters
import programs

HOME = "chatmodel-bench"
CLASS = "bench"
EVERYTHING = {
    "resourceRules": [
        {
            "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"],
            "clusterScope": True,
        }
    ],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
}  # fmt: skip
SUBJECT = {"name": HOME, "namespace": HOME}
FIXTURES: list[api.Body] = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}},
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": SUBJECT},
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": HOME},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin",
        },
        "subjects": [{"kind": "ServiceAccount", **SUBJECT}],
    },
    {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": meters.FLOW_SCHEMA},
        "spec": {
            "priorityLevelConfiguration": {"name": "exempt"},
            "matchingPrecedence": 10,
            "rules": [
                {"subjects": [{"kind": "ServiceAccount", "serviceAccount": SUBJECT}], **EVERYTHING}
            ],
        },
    },
    {
        "apiVersion": "carepath.ai/v1alpha1",
        "kind": "InstanceClass",
        "metadata": {"name": CLASS},
        "spec": {
            "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}},
            "nodeSelector": {"type": "fake"},
            "tolerations": [{"key": "fake", "operator": "Exists"}],
        },
    },
]  # fmt: skip
SETTLE_SECONDS = 8.0  # an operator's last timed look is 5 s after the traffic moved
IDLE_SECONDS = 5.0
PATIENCE_SECONDS = 60
CALM_CPU = 0.15  # of one CPU: what an API server without work stays under
CREATORS = 16


def kubectl(*words: str, text: str | None = None) -> str:
    """Run kubectl; end with its words when it fails."""
    done = subprocess.run(
        ("kubectl", *words), input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise programs.Failed(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


@contextlib.contextmanager
def prepare() -> Iterator["Arena"]:
    """Make the cluster ready, and yield what measurements need; take it all away at the end."""
    if not os.environ.get("KUBECONFIG", "").endswith("pki/admin.kubeconfig"):
        raise programs.Failed("start it inside the cluster: python3 -m devcluster run -- ...")
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(programs.ROOT / "crds"))
    kubectl("wait", "--for=condition=Established", "crd", "-l", "!none", "--timeout=30s")
    _refuse_company()
    fixtures = "\n---\n".join(json.dumps(body) for body in FIXTURES)
    kubectl("apply", "-f", "-", text=fixtures)
    with tempfile.TemporaryDirectory(prefix="chatmodel-bench-") as name:
        arena = Arena(pathlib.Path(name))
        try:
            with arena.standin:
                yield arena
        finally:
            kubectl("delete", "-f", "-", text=fixtures)


def _refuse_company() -> None:
    """End when ChatModels or another operator are there: they would be measured as well."""
    nodes = kubectl("get", "nodes", "-l", "type=fake", "-o", "name").split()
    if not nodes:
        raise programs.Failed("no fake nodes: make bench-operator brings a cluster with them up")
    if kubectl("get", "chatmodels", "--all-namespaces", "-o", "name"):
        raise programs.Failed("there are ChatModels in this cluster: measure on one of its own")
    query = ("get", "deployment", "chatmodel-operator", "-n", "chatmodel-system")
    replicas = kubectl(*query, "--ignore-not-found", "-o", "jsonpath={.spec.replicas}")
    if replicas not in ("", "0"):
        raise programs.Failed("an operator is installed in this cluster: scale it to 0 first")


class Arena:
    """Where programs are measured."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.admin = pathlib.Path(os.environ.get("KUBECONFIG", ""))
        self.kubeconfig = folder / "kubeconfig"
        self.sample = folder / "sample.json"
        standin = (sys.executable, str(programs.HERE / "standin.py"), str(self.admin))
        self.standin = programs.Running(standin, self.admin, folder / "standin.log")
        body = json.loads(self.admin.read_text())
        token = kubectl("create", "token", HOME, "-n", HOME, "--duration=24h").strip()
        body["users"][0]["user"] = {"token": token}
        self.kubeconfig.write_text(json.dumps(body))
        self.kubeconfig.chmod(0o600)

    def run(self, program: programs.Program) -> programs.Running:
        """Return a program to start."""
        log = self.folder / f"{program.name}.log"
        return programs.Running(program.command, self.kubeconfig, log, self.standin)


async def wait_until_started(client: api.Api, running: programs.Running, before: int) -> None:
    """Wait until a program has asked for something, and has stopped asking. Raises `Failed`."""
    for _ in range(PATIENCE_SECONDS):
        running.check()
        if (await meters.read(client)).own != before:
            await wait_until_quiet(client)
            return
        await asyncio.sleep(1)
    raise programs.Failed(f"it asks the API server nothing; the log: {running.tail()}")


async def wait_until_quiet(client: api.Api) -> tuple[meters.Reading, int]:
    """Wait until the measured program asks nothing for 2 s; return the last of so many readings.

    Raises `Failed` when it goes on asking.
    """
    last = await meters.read(client)
    for count in range(2, 2 + PATIENCE_SECONDS):
        await asyncio.sleep(2)
        reading = await meters.read(client)
        if reading.own == last.own:
            return reading, count
        last = reading
    raise programs.Failed(f"it does not get quiet in {2 * PATIENCE_SECONDS} s")


async def wait_until_calm(client: api.Api, seconds: float = 120) -> None:
    """Wait until the API server has little to do: controllers clean up after a deletion."""
    for _ in range(int(seconds / 3)):
        before = await meters.read(client)
        await asyncio.sleep(3)
        after = await meters.read(client)
        if (after.cpu - before.cpu) / (after.at - before.at) < CALM_CPU:
            return


async def wait_until_all_ready(
    client: api.Api, running: programs.Running, wanted: set[str]
) -> float:
    """Wait until these ChatModels are Ready; return when that was (monotonic). Raises `Failed`."""
    ready = asyncio.create_task(_watch_until_ready(client, wanted))
    end = time.monotonic() + 120 + 2 * len(wanted)
    try:
        while not (await asyncio.wait({ready}, timeout=1))[0]:
            running.check()
            if time.monotonic() > end:
                raise programs.Failed(f"not all got Ready; the log: {running.tail()}")
        return await ready
    finally:
        ready.cancel()


async def _watch_until_ready(client: api.Api, wanted: set[str]) -> float:
    left = set(wanted)
    async for _, body in client.watch("ChatModel"):
        conditions = body.get("status", {}).get("conditions", [])
        if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            left.discard(body["metadata"]["name"])
        if not left:
            break
    return time.monotonic()


async def create(client: api.Api, namespaces: list[str], chatmodels: list[str]) -> None:
    """Create ChatModels at once, spread over namespaces."""
    jobs = iter(list(enumerate(chatmodels)))

    async def work() -> None:
        for number, name in jobs:
            namespace = namespaces[number % len(namespaces)]
            body = {
                "apiVersion": api.API_VERSIONS["ChatModel"],
                "kind": "ChatModel",
                "metadata": {"name": name},
                "spec": {"mode": "mock", "instanceClassName": CLASS},
            }
            await client.text("POST", api.path_of("ChatModel", namespace), body)

    async with asyncio.TaskGroup() as group:
        for _ in range(CREATORS):
            group.create_task(work())


@contextlib.asynccontextmanager
async def namespaces(client: api.Api, prefix: str, count: int = 1) -> AsyncIterator[list[str]]:
    """Make namespaces; at the end delete them and wait until they and their objects are gone.

    NB: never the same name twice. For half a minute after a deletion the API server looks the
    name up, live, at each write: thirty requests a ChatModel that no operator made.
    """
    made = [f"{prefix}-{time.time_ns() // 1000:x}-{number}" for number in range(count)]
    for name in made:
        await client.text("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    try:
        yield made
    finally:
        for name in made:
            await client.text("DELETE", f"/api/v1/namespaces/{name}")
        await _wait_until_gone(client, made)
        await wait_until_calm(client)


async def _wait_until_gone(client: api.Api, made: list[str]) -> None:
    while True:
        items = (await client.request("GET", "/api/v1/namespaces"))["items"]
        if not {item["metadata"]["name"] for item in items} & set(made):
            return
        await asyncio.sleep(1)


def describe_cluster() -> str:
    """Return version and nodes of the cluster."""
    version = json.loads(kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"]
    nodes = json.loads(kubectl("get", "nodes", "-o", "json"))["items"]
    fake = sum(node["metadata"]["labels"].get("type") == "fake" for node in nodes)
    return f"Kubernetes {version}, {fake} fake and {len(nodes) - fake} real nodes"
