"""Operators as processes of their own behind the fault proxy, as many at once as a test wants."""

import contextlib
import dataclasses
import json
import os
import pathlib
import queue
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import yaml
from kube import ROOT, Body, Kube, wait_for
from prometheus_client.parser import text_string_to_metric_families

PROXY = ROOT / "tests/support/fault_proxy.py"
OPERATOR = (sys.executable, "-m", "kopf", "run", "-m", "chatmodel_operator.handlers")


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclasses.dataclass
class Running:
    """One operator, its proxy, and what the proxy has said."""

    name: str
    kube: Kube
    folder: pathlib.Path
    port: int
    process: "subprocess.Popen[str]"
    lines: "queue.Queue[Body]" = dataclasses.field(default_factory=queue.Queue)
    seen: list[Body] = dataclasses.field(default_factory=list)

    def trace(self) -> list[Body]:
        """Return every line of the proxy so far."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.seen.append(self.lines.get_nowait())
        return list(self.seen)

    def writes(self) -> list[Body]:
        """Return the writes so far, those of the Lease left out."""
        return [x for x in self.trace() if "write" in x and "/leases" not in x["path"]]

    def pid(self) -> int:
        """Return the process of the operator itself."""
        wait_for(lambda: any("started" in x for x in self.trace()), "the operator to start")
        return int([x["started"] for x in self.trace() if "started" in x][-1])

    def signal(self, number: int) -> None:
        """Send the operator a signal."""
        os.kill(self.pid(), number)

    def play(self, *rules: Body) -> None:
        """Have the proxy play these rules; none means a good API server."""
        fresh = self.folder / "rules.new"
        fresh.write_text(json.dumps(rules))
        fresh.rename(self.folder / "rules.json")

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of an endpoint; 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as page:
                return int(page.status), page.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def leads(self) -> bool:
        """Say whether this one works."""
        return self.get("/readyz")[0] == 200

    def sample(self, name: str, /, **labels: str) -> float | None:
        """Return one value of /metrics, or None."""
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for found in family.samples:
                if found.name == name and labels.items() <= found.labels.items():
                    return float(found.value)
        return None

    def log(self) -> list[Body]:
        """Return the operator's log lines."""
        text = (self.folder / "operator.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


class Fleet:
    """Starts operators that look at one namespace, and keep their Lease there."""

    def __init__(self, kube: Kube, folder: pathlib.Path) -> None:
        self.kube = kube
        self._folder = folder
        self._all: list[Running] = []

    def start(
        self,
        name: str,
        *rules: Body,
        elects: bool = True,
        proxied: bool = True,
        **settings: object,
    ) -> Running:
        """Start one, behind a proxy that plays rules, or as a process that nobody restarts."""
        folder = self._folder / name
        folder.mkdir()
        port = free_port()
        body = {
            "namespaces": [self.kube.namespace],
            "leaderElection": {"enabled": elects},
            "healthPort": port,
        }
        (folder / "settings.yaml").write_text(yaml.safe_dump(body | settings))
        env = os.environ | {
            "CHATMODEL_OPERATOR_SETTINGS": str(folder / "settings.yaml"),
            "POD_NAME": name,
            "POD_NAMESPACE": self.kube.namespace,
        }
        (folder / "rules.json").write_text(json.dumps(rules))
        command = [*OPERATOR, "--log-format=json", "-n", self.kube.namespace]
        if proxied:
            words = [sys.executable, str(PROXY), self.kube.kubeconfig, "--trace", "--rules"]
            command = [*words, str(folder / "rules.json"), "--", *command]
        else:
            env["KUBECONFIG"] = self.kube.kubeconfig
        with (folder / "operator.log").open("w") as log:
            process = subprocess.Popen(
                command, env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=log
            )
        running = Running(name, self.kube, folder, port, process)
        threading.Thread(target=_read, args=(running,), daemon=True).start()
        self._all.append(running)
        return running

    def stop(self) -> None:
        """Stop all."""
        for running in self._all:
            if running.process.poll() is None:
                running.process.terminate()
        for running in self._all:
            running.process.wait(20)

    def leader(self) -> Running:
        """Return the one that leads, once exactly one does."""
        wait_for(lambda: sum(x.leads() for x in self._all) == 1, "one to lead", 40)
        return next(x for x in self._all if x.leads())

    def lease(self) -> Body:
        """Return the Lease's spec."""
        return dict(self.kube.get("lease", "chatmodel-operator")["spec"])


@contextlib.contextmanager
def stopped(running: Running) -> Iterator[None]:
    """Stop a process as a paused machine would, and let it go on."""
    running.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        running.signal(signal.SIGCONT)


def _read(running: Running) -> None:
    assert running.process.stdout is not None
    with running.process.stdout as lines:
        for line in lines:
            if line.startswith("{"):
                running.lines.put(json.loads(line))
