"""The operator as a process of its own on a real API server, its pods on nodes that kwok plays.

kwok's stages steer pods by their model id (tests/support/kwok-stages.yaml); a stand-in answers
verifications at every fake pod's address. The operator runs behind the fault proxy, in node 1's
network namespace, where those addresses are.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from fake_nodes_story import CLASS, instance_class, tell
from fake_volumes import lose, storage_class
from kube import (
    ROOT,
    SYSTEM,
    Body,
    Kube,
    Refused,
    devcluster,
    random_name,
    without_installed_operator,
)

SUPPORT = ROOT / "tests/support"
TIMINGS = {"maxConnectionAgeSeconds": 1, "drainSeconds": 0, "inspectRetrySeconds": 2}


def inside(*words: str, **options: object) -> "subprocess.Popen[str]":
    """Start a program in node 1's network namespace."""
    command = [sys.executable, "-m", "devcluster", "run", "--", *words]
    return subprocess.Popen(command, cwd=ROOT, text=True, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="session")
def fake_cluster(cluster: Kube) -> Iterator[Kube]:
    """The cluster with fake nodes and the stand-in, and without another operator."""
    devcluster("up", "--fake-nodes", "2", "--kwok-stages", str(SUPPORT / "kwok-stages.yaml"))
    cluster.apply(instance_class(CLASS))
    with without_installed_operator(cluster):
        script = str(SUPPORT / "standin_runtime.py")
        standin = inside(sys.executable, script, str(_admin_kubeconfig(cluster)))
        yield cluster
        standin.terminate()
        standin.wait(10)


@dataclasses.dataclass
class Run:
    """An operator behind its proxy, in a namespace of its own."""

    kube: Kube
    lines: "queue.Queue[Body]"
    folder: pathlib.Path
    process: "subprocess.Popen[str] | None" = None
    seen: list[Body] = dataclasses.field(default_factory=list)

    def trace(self) -> list[Body]:
        """Return everything that the proxy has said so far."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.seen.append(self.lines.get_nowait())
        return list(self.seen)

    def writes(self) -> list[Body]:
        """Return what was written so far, and whether somebody was killed."""
        return [line for line in self.trace() if "write" in line]

    def said(self, what: str) -> list[Any]:
        """Return the values of one kind of line: `started`, `ended`."""
        return [line[what] for line in self.trace() if what in line]

    def play(self, *rules: Body) -> None:
        """Have the proxy play these rules from now on; none means a good API server."""
        fresh = self.folder / "rules.new"
        fresh.write_text(json.dumps(rules))
        fresh.rename(self.folder / "rules.json")

    def signal(self, number: int) -> None:
        """Send a signal to the operator that runs now."""
        os.kill(self.said("started")[-1], number)

    def end(self) -> None:
        """End proxy and operator, in peace."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(20)

    def log(self) -> str:
        """Return what operator and proxy have logged."""
        return (self.folder / "operator.log").read_text()


Start = Callable[..., contextlib.AbstractContextManager[Run]]


@pytest.fixture(scope="session")
def operator_kubeconfig(
    fake_cluster: Kube, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
    """The operator's own identity, so that its roles decide and its requests are audited."""
    fake_cluster.run("apply", "-f", str(ROOT / "deploy/namespace.yaml"))
    system = fake_cluster.inside(SYSTEM)
    system.run("apply", "-f", str(ROOT / "deploy/rbac.yaml"))
    path = tmp_path_factory.mktemp("identity") / "kubeconfig"
    body = json.loads(_admin_kubeconfig(fake_cluster).read_text())
    token = system.run("create", "token", "chatmodel-operator", "--duration=6h").strip()
    body["users"][0]["user"] = {"token": token}
    path.touch(mode=0o600)
    path.write_text(json.dumps(body))
    return path


def _admin_kubeconfig(kube: Kube) -> pathlib.Path:
    return pathlib.Path(kube.kubeconfig).parent / "pki/admin.kubeconfig"


@pytest.fixture(scope="session")
def operator(
    fake_cluster: Kube, operator_kubeconfig: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Start:
    """Start operators: `with operator(kill=7, phase="after") as run: ...`.

    `inside`: another run's kube, to go on in its namespace. `source`: a folder with another
    version of the operator. `timings`: settings besides the usual ones.
    """

    @contextlib.contextmanager
    def start(
        kill: int = 0,
        phase: str = "after",
        *,
        inside: Kube | None = None,
        source: pathlib.Path | None = None,
        timings: Body | None = None,
    ) -> Iterator[Run]:
        kube = inside or fake_cluster.inside(random_name("fake"))
        if inside is None:
            kube.run("create", "namespace", kube.namespace)
        folder = tmp_path_factory.mktemp("operator")
        body = {"namespaces": [kube.namespace], "timings": TIMINGS | (timings or {})}
        (folder / "settings.yaml").write_text(yaml.safe_dump(body))
        run = Run(kube, queue.Queue(), folder)
        run.play()
        run.process = _start(run, operator_kubeconfig, kill, phase, source)
        reader = threading.Thread(target=_read, args=(run.process, run.lines), daemon=True)
        reader.start()
        try:
            yield run
        finally:
            run.end()
            reader.join(5)
            if inside is None:
                # What is gone already, with its namespace or its kind, is fine.
                with contextlib.suppress(Refused):
                    kube.run("delete", "chatmodels", "--all", "--wait=false")
                    kube.run("delete", "namespace", kube.namespace, "--wait=false")

    return start


@pytest.fixture
def volumes(cluster: Kube) -> Iterator[Callable[[], str]]:
    """Makes a volume of a class of its own, and returns the class; both go afterwards."""
    name = random_name("volume")
    made: list[str] = []

    def make() -> str:
        made.append(f"{name}-{len(made)}")
        spec = {
            "capacity": {"storage": "5Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": name,
            "hostPath": {"path": "/nowhere"},
        }
        meta = {"name": made[-1]}
        cluster.apply(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": spec}
        )
        return name

    cluster.apply(storage_class(name, grows=True))
    yield make
    cluster.run("delete", "storageclass", name)
    for volume in made:
        lose(cluster, volume)


@pytest.fixture(scope="session")
def undisturbed(operator: Start) -> tuple[Body, int]:
    """The end of `tell` when nobody disturbs the operator, and its writes on the way there."""
    with operator() as run:
        return tell(run.kube), len(run.writes())


def _start(
    run: Run, kubeconfig: pathlib.Path, kill: int, phase: str, source: pathlib.Path | None
) -> "subprocess.Popen[str]":
    path = [str(source)] if source is not None else []
    path += [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    with (run.folder / "operator.log").open("w") as log:
        return inside(
            "env", f"CHATMODEL_OPERATOR_SETTINGS={run.folder / 'settings.yaml'}",
            f"PYTHONPATH={os.pathsep.join(path)}",
            sys.executable, str(SUPPORT / "fault_proxy.py"), str(kubeconfig),
            "--kill", str(kill), "--phase", phase,
            "--rules", str(run.folder / "rules.json"), "--trace", "--",
            sys.executable, "-m", "kopf", "run", "-m", "chatmodel_operator.handlers",
            "-n", run.kube.namespace,
            stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip


def _read(process: "subprocess.Popen[str]", lines: "queue.Queue[Body]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            lines.put(json.loads(line))
    process.stdout.close()
