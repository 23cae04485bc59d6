"""The programs that are measured, and the Go one's build.

    programs.py                      # builds the Go operator; needs the Go module proxy

Built before, not by, the run inside the cluster's network, which has no way out.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import Self

import environments
import meters

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
GO_SOURCES = HERE / "go-operator"


class Failed(Exception):
    """A measurement that cannot be had; the text says why."""


@dataclasses.dataclass(frozen=True)
class Program:
    """One way to do the work."""

    name: str
    title: str
    command: tuple[str, ...]


def go_binary() -> pathlib.Path:
    """Return where the Go operator is, or will be, named by the hash of its sources."""
    digest = hashlib.sha256()
    for path in sorted(p for p in GO_SOURCES.iterdir() if p.suffix != ".md"):
        digest.update(path.read_bytes())
    return environments.cache_folder() / f"go-operator-{digest.hexdigest()[:12]}"


def build() -> None:
    """Build the Go operator unless it is there."""
    binary = go_binary()
    if not binary.exists():
        print("building the Go operator (minutes the first time) ...", file=sys.stderr, flush=True)
        subprocess.run(["go", "build", "-o", str(binary), "."], cwd=GO_SOURCES, check=True)


def list_programs(sample: pathlib.Path, kubeconfig: pathlib.Path) -> list[Program]:
    """Return the variants in the order of the table."""
    kopf = ("-m", "kopf", "run", "-m", "chatmodel_operator.handlers")
    go = str(go_binary())
    return [
        Program(
            "floor",
            "the floor: a bare script",
            (sys.executable, str(HERE / "floor.py"), str(kubeconfig), str(sample)),
        ),
        Program(
            "ours",
            "this operator",
            (sys.executable, *kopf, "--all-namespaces", "--log-format=json"),
        ),
        Program("go-default", "controller-runtime, default", (go,)),
        Program("go-tuned", "controller-runtime, tuned", (go, "-tuned")),
    ]


class Running:
    """A program that runs; a context that ends it."""

    def __init__(
        self,
        command: tuple[str, ...],
        kubeconfig: pathlib.Path,
        log: pathlib.Path,
        companion: "Running | None" = None,
    ) -> None:
        self._command, self.log, self._companion = command, log, companion
        self._env = {**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONDONTWRITEBYTECODE": "1"}
        # JSON is YAML.
        settings = kubeconfig.with_name("settings.yaml")
        settings.write_text(json.dumps({"healthPort": meters.OPERATOR_PORT}))
        self._env["CHATMODEL_OPERATOR_SETTINGS"] = str(settings)

    def __enter__(self) -> Self:
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._env, stdout=log, stderr=log
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        """Say so when the program, or one it needs, has ended by itself. Raises `Failed`."""
        if self._companion is not None:
            self._companion.check()
        if self._process.poll() is not None:
            raise Failed(f"{' '.join(self._command)} ended; the log: {self.tail()}")

    def tail(self) -> str:
        """Return the end of the log."""
        return "\n".join(["", *self.log.read_text(errors="replace").splitlines()[-15:]])

    @property
    def cpu_seconds(self) -> float:
        return meters.cpu_seconds(self._process.pid)

    def memory_mib(self, field: str = "VmHWM") -> float:
        return meters.memory_mib(self._process.pid, field)


if __name__ == "__main__":
    build()
    print(go_binary())
