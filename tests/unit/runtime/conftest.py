"""A runtime as a real process on loopback ports, a hub mirror, the vllm engine with a stand-in."""

import dataclasses
import json
import logging
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import hub_mirror
import models
import pytest
import small_disks
import standin_vllm
from small_models import COMMIT, FILES

from chatmodel_runtime import logs
from chatmodel_runtime.engines.vllm import Patience, VllmEngine


@dataclasses.dataclass
class Runtime:
    """A process that serves, and what it has said."""

    process: subprocess.Popen[bytes]
    public: str
    management: str
    log: pathlib.Path

    def said(self) -> str:
        return self.log.read_text()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.said().splitlines()]

    def count_running(self) -> float:
        """Return how many requests the engine works on, as its metrics say."""
        text = httpx2.get(f"{self.management}/metrics").text
        name = "chatmodel_requests_running "
        (line,) = (line for line in text.splitlines() if line.startswith(name))
        return float(line.split()[1])


Start = Callable[..., Runtime]


def free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def environment(folder: pathlib.Path, **more: str) -> dict[str, str]:
    """Return an environment that holds nothing of the machine's own settings."""
    own = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {**own, "HOME": str(folder), "TMPDIR": str(folder), **more}


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Return once the condition holds; fail the test after so many seconds."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def status_of(url: str) -> int:
    try:
        return httpx2.get(url, timeout=5).status_code
    except httpx2.TransportError:
        return 0


def starter(folder: pathlib.Path) -> Iterator[Start]:
    """Yield a function that starts a runtime; whatever it started is ended afterwards."""
    started: list[Runtime] = []

    def start(*, ready: bool = True, log: pathlib.Path | None = None, **env: str) -> Runtime:
        public, management = free_ports()
        log = log or folder / f"log-{len(started)}"
        ports = {"CHAT_API_PORT": str(public), "MANAGEMENT_PORT": str(management)}
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "chatmodel_runtime", "serve"],
                env=environment(folder, **ports | env),
                cwd=folder,
                stdout=sink,
                stderr=subprocess.STDOUT,
            )
        at = "http://127.0.0.1:"
        runtime = Runtime(process, f"{at}{public}", f"{at}{management}", log)
        started.append(runtime)
        if ready:
            url = f"{runtime.management}/readyz"
            wait_until(lambda: process.poll() is not None or status_of(url) == 200, "ready", 60)
            assert process.poll() is None, runtime.said()
        return runtime

    try:
        yield start
    finally:
        for runtime in started:
            runtime.process.kill()
            runtime.process.wait()


@pytest.fixture
def start(tmp_path: pathlib.Path) -> Iterator[Start]:
    yield from starter(tmp_path)


@pytest.fixture(scope="module")
def start_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    yield from starter(tmp_path_factory.mktemp("serve"))


@pytest.fixture
def pod_config(tmp_path: pathlib.Path) -> dict[str, Any]:
    """Return the configuration a pod gets for a mock, with one valid key: `right`."""
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "api-key").write_text("right")
    return {
        "command": "serve",
        "chatModel": "triage",
        "revision": "triage-6f3a2c",
        "mode": "mock",
        "engine": "Mock",
        "patientContext": {"source": "Demo"},
        "auth": {"mode": "ApiKey", "keysDir": str(keys)},
        "limits": {"drainSeconds": 0},
    }


@pytest.fixture
def volume(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of its own, of 24 MiB."""
    with small_disks.mounted(tmp_path / "volume", 24) as folder:
        yield folder


@dataclasses.dataclass
class Hub:
    """A mirror, and its folder of models."""

    root: pathlib.Path
    endpoint: str
    server: hub_mirror.MirrorServer

    def publish(self, model_id: str, files: dict[str, bytes], **refs: Any) -> None:
        folder = self.root / model_id / COMMIT
        folder.mkdir(parents=True)
        for name, body in files.items():
            (folder / name).write_bytes(body)
        (folder.parent / "refs.json").write_text(json.dumps({"main": COMMIT, **refs}))

    def fail(self, *faults: dict[str, Any]) -> None:
        self.server.faults = list(faults)

    def asked(self, part: str) -> list[dict[str, Any]]:
        return [request for request in self.server.requests if part in request["path"]]


@pytest.fixture(scope="module")
def mirror_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("mirror") / "hub"
    with hub_mirror.running(root) as (endpoint, server):
        yield Hub(root, endpoint, server)


@pytest.fixture
def mirror(mirror_process: Hub) -> Hub:
    """Return a mirror that has demo/tiny, has been asked nothing and fails nothing."""
    shutil.rmtree(mirror_process.root, ignore_errors=True)
    mirror_process.publish("demo/tiny", FILES)
    mirror_process.server.faults, mirror_process.server.requests = [], []
    return mirror_process


@pytest.fixture(scope="module")
def vllm_model() -> pathlib.Path:
    return models.made("qwen", models.make_qwen)


@pytest.fixture
def vllm_server(tmp_path: pathlib.Path) -> standin_vllm.Standin:
    """Return the orders of the server that the next two fixtures start."""
    return standin_vllm.Standin(tmp_path)


@pytest.fixture
def make_vllm(
    vllm_model: pathlib.Path, vllm_server: standin_vllm.Standin
) -> Iterator[Callable[..., VllmEngine]]:
    made: list[VllmEngine] = []

    def build(*, gpus: int = 1, **seconds: float) -> VllmEngine:
        patience = Patience(**{"look": 0.05, "end": 20} | seconds)
        made.append(VllmEngine(vllm_model, vllm_server.command, gpus=gpus, patience=patience))
        return made[-1]

    yield build
    for engine in made:
        engine.close()


@pytest.fixture
def vllm(make_vllm: Callable[..., VllmEngine]) -> VllmEngine:
    engine = make_vllm()
    engine.load()
    return engine


@pytest.fixture
def told() -> Iterator[list[str]]:
    """Collect what our own log says, as it is written in pods."""
    lines: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler, log = Collector(), logging.getLogger("chatmodel_runtime")
    handler.setFormatter(logs.JsonFormatter())
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield lines
    log.removeHandler(handler)
    log.setLevel(before)
