"""A whole runtime with the engine VLLM, its `vllm` being the stand-in."""

import json
import os
import pathlib
import shlex
import signal
from collections.abc import Callable
from typing import Any, Protocol

import httpx2
import models
import pytest
from staged import lay_down
from standin_vllm import Standin, is_there, wait_until

from chatmodel_runtime import hub, model_manager, settings
from chatmodel_runtime.engines.hf_tokenizer import HfTokenizer
from chatmodel_runtime.progress import Progress

COMMIT = "1" * 40


class Runtime(Protocol):
    """A process of conftest.py."""

    process: Any
    public: str
    management: str

    def said(self) -> str: ...


class Mirror(Protocol):
    """The fixture of conftest.py, as far as it is used here."""

    endpoint: str

    def publish(self, model_id: str, files: dict[str, bytes], **refs: Any) -> None: ...


@pytest.fixture
def staged(mirror: Mirror, vllm_model: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    mirror.publish(models.QWEN, {path.name: path.read_bytes() for path in vllm_model.iterdir()})
    client = hub.HubClient(settings.Hub(endpoint=mirror.endpoint))
    root = tmp_path / "models"
    return model_manager.stage(client, models.QWEN, COMMIT, root, Progress(COMMIT))


@pytest.fixture
def start_vllm(
    start: Callable[..., Runtime],
    staged: pathlib.Path,
    vllm_server: Standin,
    pod_config: dict[str, Any],
    tmp_path: pathlib.Path,
) -> Callable[..., Runtime]:
    model = {"modelID": models.QWEN, "commit": COMMIT, "modelDir": str(staged)}
    config = json.dumps(pod_config | model | {"mode": "qwen", "engine": "VLLM"})
    path = install(vllm_server, tmp_path / "bin")
    return lambda **options: start(CHATMODEL_CONFIG=config, PATH=path, **options)


def install(server: Standin, folder: pathlib.Path) -> str:
    """Put the stand-in's `vllm` into a folder; return a PATH with it."""
    program = folder / "vllm"
    folder.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(server.command)} "$@"\n')
    program.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture
def start_alone(
    start: Callable[..., Runtime],
    vllm_model: pathlib.Path,
    vllm_server: Standin,
    tmp_path: pathlib.Path,
) -> Callable[..., Runtime]:
    """Return what starts a runtime outside of a cluster, from a folder as `download` leaves it."""
    root = tmp_path / "models" / models.QWEN.replace("/", "--")
    root.mkdir(parents=True)
    lay_down(vllm_model, root / COMMIT)
    env = {
        "LLM_MODE": "qwen",
        "ENGINE": "VLLM",
        "MODEL_CACHE_DIR": str(tmp_path / "models"),
        "PATH": install(vllm_server, tmp_path / "bin"),
        "PATIENT_CONTEXT": "demo",
    }
    return lambda **more: start(**env | more)


def test_a_pod_with_vllm_is_verified_answers_and_leaves_nothing(
    start_vllm: Callable[..., Runtime], staged: pathlib.Path, vllm_server: Standin
) -> None:
    tokenizer = HfTokenizer(staged)
    end = tokenizer.end_token
    vllm_server.order(tokens=tokenizer.encode("so it is</think>Rest."), end_token=end)
    runtime = start_vllm()
    verified = httpx2.post(f"{runtime.management}/verify", timeout=60).json()
    assert (verified["ok"], verified["engine"], verified["commit"]) == (True, "VLLM", COMMIT)
    body = {"patient_mrn": "MRN-001", "query": "What are my current medications?"}
    headers = {"X-API-Key": "right"}
    answer = httpx2.post(f"{runtime.public}/triage", json=body, headers=headers, timeout=60).json()
    assert (answer["response"], answer["llm_mode"]) == ("Rest.", "qwen")
    runtime.process.terminate()
    assert runtime.process.wait(30) == 0, runtime.said()
    assert not is_there(vllm_server.started()["pid"])


def test_a_pod_whose_vllm_dies_is_not_alive_and_says_so(
    start_vllm: Callable[..., Runtime], vllm_server: Standin
) -> None:
    runtime = start_vllm()
    livez = f"{runtime.management}/livez"
    assert httpx2.get(livez).status_code == 200
    os.kill(vllm_server.started()["pid"], signal.SIGKILL)
    wait_until(lambda: httpx2.get(livez).status_code == 503, "a pod that is not alive")
    wait_until(lambda: "the vLLM server has ended" in runtime.said(), "a line about it")


def test_a_pod_whose_vllm_cannot_load_ends_as_a_bad_model(
    start_vllm: Callable[..., Runtime], vllm_server: Standin
) -> None:
    vllm_server.order(says=["ValueError: tensor x is missing"], load_ends=1)
    runtime = start_vllm(ready=False)
    assert runtime.process.wait(60) == 65
    assert "ModelLoadFailed: ValueError: tensor x is missing" in runtime.said()


def test_vllm_serves_outside_of_a_cluster_and_goes_with_the_runtime(
    start_alone: Callable[..., Runtime], vllm_model: pathlib.Path, vllm_server: Standin
) -> None:
    tokenizer = HfTokenizer(vllm_model)
    tokens = tokenizer.encode("so it is</think>Rest.")
    vllm_server.order(tokens=tokens, end_token=tokenizer.end_token)
    runtime = start_alone()
    body = {"patient_mrn": "MRN-001", "query": "What are my current medications?"}
    said = httpx2.post(f"{runtime.public}/triage", json=body, timeout=60).json()
    assert (said["response"], said["model"]) == ("Rest.", models.QWEN)
    asked = {"model": "any", "messages": [{"role": "user", "content": "q"}]}
    url = f"{runtime.public}/v1/chat/completions"
    (choice,) = httpx2.post(url, json=asked, timeout=60).json()["choices"]
    assert choice["message"]["content"] == "Rest."
    # As Ctrl-C in a terminal.
    runtime.process.send_signal(signal.SIGINT)
    assert runtime.process.wait(30) == 0, runtime.said()
    assert not is_there(vllm_server.started()["pid"])


def test_vllm_that_is_not_installed_is_said_in_one_line(
    start_alone: Callable[..., Runtime],
) -> None:
    runtime = start_alone(PATH="/nowhere", ready=False)
    assert runtime.process.wait(60) == 64
    assert "cannot start vllm: No such file or directory" in runtime.said()


def test_a_runtime_alone_whose_engine_fails_for_a_while_comes_back_by_itself(
    start_alone: Callable[..., Runtime], vllm_model: pathlib.Path, vllm_server: Standin
) -> None:
    runtime = start_alone()
    readyz, url = f"{runtime.management}/readyz", f"{runtime.public}/triage"
    body = {"patient_mrn": "MRN-001", "query": "What now?"}
    vllm_server.order(status=500)
    statuses = [httpx2.post(url, json=body, timeout=60).status_code for _ in range(6)]
    assert statuses == [500] * 5 + [503]
    assert httpx2.get(readyz).status_code == 503
    vllm_server.order(tokens=HfTokenizer(vllm_model).encode("</think>Rest."))
    wait_until(lambda: httpx2.get(readyz).status_code == 200, "ready again")
    assert httpx2.post(url, json=body, timeout=60).status_code == 200
    assert "answers come again: ready" in runtime.said()
