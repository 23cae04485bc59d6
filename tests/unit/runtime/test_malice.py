"""Repositories that mean harm: none is executed, none is loaded, and nobody is called."""

import contextlib
import json
import pathlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Protocol

import hub_mirror
import malice
import pytest
import stager
from small_models import COMMIT

from chatmodel_runtime import formats, model_manager

NAMES = sorted(malice.cases(pathlib.Path(), 1))
MODEL = "demo/evil"


class Mirror(Protocol):
    """The fixture of conftest.py, as far as it is used here."""

    root: pathlib.Path
    endpoint: str
    server: hub_mirror.MirrorServer

    def asked(self, part: str) -> list[dict[str, Any]]: ...


class Listener:
    """Counts who called; the kernel takes calls, nobody answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]

    def calls(self) -> int:
        count = 0
        while True:
            try:
                self._socket.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("malice")
    (folder / "termination").touch()
    return folder


@pytest.fixture(scope="module")
def forking(workplace: pathlib.Path) -> Iterator[stager.Stager]:
    with stager.running(workplace) as running:
        yield running


@contextlib.contextmanager
def published(mirror: Mirror, case: malice.Case) -> Iterator[None]:
    folder = mirror.root / MODEL / COMMIT
    for name, body in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    (folder.parent / "refs.json").write_text(json.dumps({"main": COMMIT}))
    usual = mirror.server.repositories
    mirror.server.repositories = malice.Hostile(mirror.root, {MODEL: case.names})
    yield
    mirror.server.repositories = usual


def config(mirror: Mirror, command: str, root: pathlib.Path) -> dict[str, Any]:
    body = {"command": command, "chatModel": "triage", "revision": "triage-1", "modelID": MODEL}
    body |= {"hub": {"endpoint": mirror.endpoint}}
    return body | ({"commit": COMMIT, "modelsRoot": str(root)} if command == "stage" else {})


@pytest.mark.parametrize("name", NAMES)
def test_who_means_harm_is_not_obeyed(
    mirror: Mirror,
    forking: stager.Stager,
    workplace: pathlib.Path,
    listener: Listener,
    tmp_path: pathlib.Path,
    name: str,
) -> None:
    canary = tmp_path / "canary"
    case = malice.cases(canary, listener.port)[name]
    reports = []
    with published(mirror, case):
        for command in ("inspect", "stage"):
            (workplace / "termination").write_text("")
            ended = forking.run(config(mirror, command, tmp_path / "models"))
            home = f"socket.connect ('127.0.0.1', {mirror.server.server_port})"
            assert set(ended.seen) == {home}
            reports.append((ended.status, json.loads((workplace / "termination").read_text())))
    final = model_manager.model_folder(tmp_path / "models", MODEL, COMMIT)
    if case.reason is None:
        assert [status for status, _ in reports] == [0, 0]
        check_harmless(final, canary, listener)
    else:
        assert reports[1][0] == 65 and reports[1][1]["reason"] == case.reason
        assert not final.exists() and not list(tmp_path.rglob("COMPLETE"))
    assert not [r for r in mirror.asked("/resolve/") if "evil" in r["path"].split(COMMIT)[1]]
    assert (canary.exists(), listener.calls()) == (False, 0)


def check_harmless(final: pathlib.Path, canary: pathlib.Path, listener: Listener) -> None:
    """See that a model was staged, and that nothing in it speaks of code or of another place."""
    assert model_manager.check(final)
    for path in final.iterdir():
        kept = formats.is_config(path.name) or path.name == "model.safetensors"
        assert kept or path.name in ("manifest.json", "COMPLETE")
        body = path.read_bytes()
        assert str(canary).encode() not in body and str(listener.port).encode() not in body


def test_there_are_at_least_twenty_that_are_refused() -> None:
    every = malice.cases(pathlib.Path(), 1).values()
    assert len([case for case in every if case.reason is not None]) >= 20


def test_obeying_is_noticed(tmp_path: pathlib.Path, listener: Listener) -> None:
    canary = tmp_path / "canary"
    case = malice.cases(canary, listener.port)["code beside weights"]
    for name, body in case.files.items():
        (tmp_path / name).write_bytes(body)
    subprocess.run([sys.executable, "-c", malice.victim(tmp_path)], check=True)
    assert (canary.exists(), listener.calls()) == (True, 2)


def test_a_child_that_calls_somebody_is_noticed(forking: stager.Stager, listener: Listener) -> None:
    listener.close()  # refused at once
    body = {"command": "inspect", "chatModel": "a", "revision": "a", "modelID": MODEL}
    ended = forking.run(body | {"hub": {"endpoint": f"http://127.0.0.1:{listener.port}"}})
    assert ended.status == 75
    assert set(ended.seen) == {f"socket.connect ('127.0.0.1', {listener.port})"}
