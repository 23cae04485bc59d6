"""How commands end: exit codes, the one sentence, the `.env` file."""

import json
import os
import pathlib
import socket
import subprocess
import sys
from typing import Any, Protocol

import pytest
from small_models import COMMIT, gguf
from typed_gguf import typed_gguf


class Mirror(Protocol):
    """The fixture of conftest.py, as far as it is used here."""

    endpoint: str

    def publish(self, model_id: str, files: dict[str, bytes], **refs: Any) -> None: ...
    def fail(self, *faults: dict[str, Any]) -> None: ...


def run(folder: pathlib.Path, *args: str, **env: str) -> tuple[int, list[dict[str, Any]], str]:
    """Run a command; return its exit code, its log lines and standard error."""
    own = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    base = {**own, "HOME": str(folder), "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "chatmodel_runtime", *args],
        env=base | env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    lines = [json.loads(x) for x in done.stdout.splitlines() if x.startswith("{")]
    return done.returncode, lines, done.stderr


def test_help_names_every_command(tmp_path: pathlib.Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chatmodel_runtime", "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("serve", "inspect", "stage", "download"))


@pytest.mark.parametrize(
    ("command", "env", "code", "says"),
    [
        pytest.param("serve", {"CHATMODEL_CONFIG": "{"}, 64, "ConfigError", id="no JSON"),
        pytest.param("inspect", {}, 64, "ConfigError", id="inspect without configuration"),
        pytest.param("stage", {}, 64, "ConfigError", id="stage without configuration"),
        pytest.param("serve", {"LLM_MODE": "huggingface"}, 64, "MODEL_ID", id="no model id"),
        pytest.param("serve", {"LLM_MODE": "qwen"}, 64, "download", id="not downloaded yet"),
        pytest.param("serve", {"PATIENT_CONTEXT": "x"}, 64, "ConfigError", id="unknown source"),
        pytest.param("serve", {"API_KEYS_FILE": "absent"}, 75, "ApiKeyMissing", id="no keys"),
    ],
)
def test_a_command_that_cannot_start_says_why_in_one_line(
    tmp_path: pathlib.Path, command: str, env: dict[str, str], code: int, says: str
) -> None:
    ended, lines, _ = run(tmp_path, command, **env)
    assert (ended, len(lines)) == (code, 1)
    assert says in lines[0]["message"]


def test_a_pod_whose_key_is_missing_is_tried_again(
    tmp_path: pathlib.Path, pod_config: dict[str, Any]
) -> None:
    config = pod_config | {"auth": {"mode": "ApiKey", "keysDir": str(tmp_path / "absent")}}
    ended, lines, _ = run(tmp_path, "serve", CHATMODEL_CONFIG=json.dumps(config))
    assert ended == 75 and "ApiKeyMissing" in lines[-1]["message"]


@pytest.mark.parametrize("name", ["CHAT_API_PORT", "MANAGEMENT_PORT"])
def test_a_port_that_is_no_number_is_a_mistake_of_configuration(
    tmp_path: pathlib.Path, name: str
) -> None:
    assert run(tmp_path, "serve", **{name: "tcp://10.0.0.1:8002"})[0] == 64


def test_a_port_that_is_taken_ends_with_a_code_of_the_contract(tmp_path: pathlib.Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended, _, _ = run(tmp_path, "serve", CHAT_API_PORT=str(taken.getsockname()[1]))
    assert ended in (64, 70, 75)


def test_a_model_that_is_not_staged_is_missing(
    tmp_path: pathlib.Path, pod_config: dict[str, Any]
) -> None:
    real = {
        "mode": "huggingface",
        "engine": "Transformers",
        "modelID": "demo/tiny",
        "commit": COMMIT,
        "modelDir": str(tmp_path / "absent"),
    }
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        ports = [str(s.getsockname()[1]) for s in (one, two)]
    ended, lines, _ = run(
        tmp_path,
        "serve",
        CHATMODEL_CONFIG=json.dumps(pod_config | real),
        CHAT_API_PORT=ports[0],
        MANAGEMENT_PORT=ports[1],
    )
    assert ended == 75 and "CacheMissing" in lines[-1]["message"]


def test_inspect_and_stage_run_as_in_pods(mirror: Mirror, tmp_path: pathlib.Path) -> None:
    shared = {
        "chatModel": "triage",
        "revision": "triage-6f3a2c",
        "modelID": "demo/tiny",
        "hub": {"endpoint": mirror.endpoint},
    }
    inspect = json.dumps({"command": "inspect", **shared})
    assert run(tmp_path, "inspect", CHATMODEL_CONFIG=inspect)[0] == 0
    models = {"commit": COMMIT, "modelsRoot": str(tmp_path / "models")}
    stage = json.dumps({"command": "stage", **shared, **models})
    ended, lines, _ = run(tmp_path, "stage", CHATMODEL_CONFIG=stage)
    assert (ended, lines[-1]["message"]) == (0, "staged")
    assert (tmp_path / "models/demo--tiny" / COMMIT / "COMPLETE").exists()


def test_what_inspect_chose_is_what_stage_and_download_put_in_place(
    mirror: Mirror, tmp_path: pathlib.Path
) -> None:
    mirror.publish("demo/kinds", {"m-Q4_0.gguf": gguf(), "m-Q8_0.gguf": gguf()})
    shared = {
        "chatModel": "triage",
        "revision": "triage-6f3a2c",
        "modelID": "demo/kinds",
        "hub": {"endpoint": mirror.endpoint},
    }
    inspect = json.dumps({"command": "inspect", **shared, "quantization": "Int8"})
    assert run(tmp_path, "inspect", CHATMODEL_CONFIG=inspect)[0] == 0
    more = {"commit": COMMIT, "modelsRoot": str(tmp_path / "models"), "quantization": "Int8"}
    stage = json.dumps({"command": "stage", **shared, **more, "files": ["m-Q8_0.gguf"]})
    assert run(tmp_path, "stage", CHATMODEL_CONFIG=stage)[0] == 0
    env = {"LLM_MODE": "huggingface", "MODEL_ID": "demo/kinds", "HF_ENDPOINT": mirror.endpoint}
    env["MODEL_CACHE_DIR"] = str(tmp_path / "alone")
    assert run(tmp_path, "download", QUANTIZATION="Int8", **env)[0] == 0
    for root in ("models", "alone"):
        folder = tmp_path / root / "demo--kinds" / f"{COMMIT}-Int8"
        names = {path.name for path in folder.iterdir()}
        assert names == {"m-Q8_0.gguf", "manifest.json", "COMPLETE"}
    ended, lines, _ = run(tmp_path, "download", **env)
    assert ended == 65 and "set spec.quantization to Int8 or Int4" in lines[-1]["message"]


def test_a_file_that_no_engine_loads_is_refused_alone_as_in_a_pod(
    mirror: Mirror, tmp_path: pathlib.Path
) -> None:
    mirror.publish("demo/types", {"m-Q5_K_M.gguf": typed_gguf("Q5_K")})
    shared = {"chatModel": "triage", "revision": "triage-6f3a2c", "modelID": "demo/types"}
    config = {"command": "inspect", **shared, "hub": {"endpoint": mirror.endpoint}}
    env = {"LLM_MODE": "huggingface", "MODEL_ID": "demo/types", "HF_ENDPOINT": mirror.endpoint}
    for command, given in (
        ("inspect", {"CHATMODEL_CONFIG": json.dumps(config)}),
        ("download", env),
    ):
        ended, lines, _ = run(tmp_path, command, MODEL_CACHE_DIR=str(tmp_path / "alone"), **given)
        assert ended == 65
        assert lines[-1]["message"] == (
            "EngineUnsupported: m-Q5_K_M.gguf has matrices of Q5_K; OpenVINO loads F16, Q8_0, Q6_K,"
            " Q4_K, Q4_0, Q4_1; name a model that has a file named F16, Q8_0, Q4_K_M, Q4_0, Q4_1"
        )
    assert not (tmp_path / "alone").exists()


@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGINGFACE_TOKEN"])
def test_download_reads_dotenv_and_keeps_the_token_to_itself(
    mirror: Mirror, tmp_path: pathlib.Path, name: str
) -> None:
    token = "hf_AbCdEfGhIjKlMnOp"
    (tmp_path / ".env").write_text(
        f"# a comment\nLLM_MODE=huggingface # words\nMODEL_ID='demo/tiny'\n{name}={token}\n"
        f"HF_ENDPOINT={mirror.endpoint}\nMODEL_CACHE_DIR=cache\n"
    )
    ended, lines, errors = run(tmp_path, "download")
    assert ended == 0
    assert (tmp_path / "cache/demo--tiny" / COMMIT / "COMPLETE").exists()
    assert token not in str(lines) + errors


def test_a_download_that_the_hub_refuses_ends_with_its_reason(
    mirror: Mirror, tmp_path: pathlib.Path
) -> None:
    env = {"LLM_MODE": "huggingface", "HF_ENDPOINT": mirror.endpoint}
    assert run(tmp_path, "download", MODEL_ID="demo/absent", **env)[0] == 65
    later = {"Retry-After": "86400"}  # longer than anybody waits
    mirror.fail({"match": "/revision/", "status": 503, "headers": later})
    assert run(tmp_path, "download", MODEL_ID="demo/tiny", **env)[0] == 75
