"""The vLLM server as a process, played by a stand-in: started, loading, lost, ended."""

import json
import os
import pathlib
import signal
import threading
from collections.abc import Callable

import httpx2
import pytest
import standin_vllm
from standin_vllm import Standin, is_there, wait_until

from chatmodel_runtime.engines.vllm import VllmEngine
from chatmodel_runtime.engines.vllm_process import LONGEST_LINE
from chatmodel_runtime.errors import ConfigError, Failure

PROMPT = [71, 84, 301]
SAID = "(EngineCore pid=7) {} 01-31 12:00:00 [v1/engine/core.py:571] {}"
Start = Callable[..., VllmEngine]


def test_the_server_is_started_as_documented(
    make_vllm: Start, vllm_server: Standin, vllm_model: pathlib.Path
) -> None:
    engine = make_vllm(gpus=2)
    engine.load()
    arguments = vllm_server.started()["argv"][1:]
    port = str(vllm_server.started()["port"])
    assert arguments == [
        *("serve", str(vllm_model), "--host", "127.0.0.1", "--port", port),
        *("--served-model-name", "model", "--max-model-len", "auto", "--max-num-seqs", "256"),
        *("--gpu-memory-utilization", "0.9", "--load-format", "safetensors"),
        *("--generation-config", "vllm", "--no-enable-prefix-caching", "--no-trust-remote-code"),
        *("--no-enable-log-requests", "--disable-uvicorn-access-log"),
        *("--uvicorn-log-level", "warning", "--disable-fastapi-docs"),
        *("--tensor-parallel-size", "2"),
    ]
    assert (engine.context_tokens, engine.max_active) == (standin_vllm.CONTEXT_TOKENS, 256)


def test_one_gpu_is_not_split(vllm: VllmEngine, vllm_server: Standin) -> None:
    assert "--tensor-parallel-size" not in vllm_server.started()["argv"]


def test_its_environment_holds_its_key_and_nothing_of_ours(
    make_vllm: Start, vllm_server: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {"HF_TOKEN": "hf_secretsecret", "CHATMODEL_CONFIG": "{}", "API_KEYS_FILE": "/keys"}
    for name, value in {**mine, "VLLM_DEBUG_DUMP_PATH": "/x", "CUDA_VISIBLE_DEVICES": "0"}.items():
        monkeypatch.setenv(name, value)
    make_vllm().load()
    started = vllm_server.started()
    env = started["env"]
    assert len(env["VLLM_API_KEY"]) >= 43
    assert not any(env["VLLM_API_KEY"] in word for word in started["argv"])
    assert env["CUDA_VISIBLE_DEVICES"] == "0"
    assert not {*mine, "VLLM_DEBUG_DUMP_PATH", "PYTHONPATH"} & set(env)
    for switch in ("VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "HF_HUB_OFFLINE"):
        assert env[switch] == "1"


def test_each_server_has_a_key_of_its_own_and_refuses_others(
    vllm: VllmEngine, vllm_server: Standin
) -> None:
    url = f"http://127.0.0.1:{vllm_server.started()['port']}/v1"
    refused = httpx2.post(f"{url}/completions", json={"prompt": PROMPT}).status_code
    wrong = httpx2.get(f"{url}/models", headers={"Authorization": "Bearer wrong"}).status_code
    assert (refused, wrong, vllm_server.read("bodies")) == (401, 401, [])


def test_its_files_are_its_own_and_go_with_it(make_vllm: Start, vllm_server: Standin) -> None:
    engine = make_vllm()
    engine.load()
    home = pathlib.Path(vllm_server.started()["env"]["HOME"])
    (home / ".cache").mkdir()
    assert (home.stat().st_mode & 0o077, vllm_server.started()["env"]["TMPDIR"]) == (0, str(home))
    engine.close()
    assert not home.exists()


def test_loading_lasts_until_the_server_is_healthy_and_says_so(
    make_vllm: Start, vllm_server: Standin, told: list[str]
) -> None:
    vllm_server.order(loads=True)
    engine = make_vllm(tell=0.1)
    loading = threading.Thread(target=engine.load)
    loading.start()
    wait_until(lambda: any("vLLM is loading" in line for line in told), "progress in the log")
    assert loading.is_alive() and not engine.is_alive()
    vllm_server.order()
    loading.join(30)
    assert not loading.is_alive() and engine.is_alive()


def test_closing_while_it_loads_ends_both(make_vllm: Start, vllm_server: Standin) -> None:
    vllm_server.order(loads=True)
    engine = make_vllm()
    endings: list[BaseException] = []

    def load() -> None:
        try:
            engine.load()
        except Failure as failure:
            endings.append(failure)

    loading = threading.Thread(target=load)
    loading.start()
    wait_until((vllm_server.folder / "started.json").exists, "a start")
    engine.close()
    loading.join(30)
    assert len(endings) == 1 and not is_there(vllm_server.started()["pid"])


@pytest.mark.parametrize(
    ("says", "code", "reason", "message", "exit_code"),
    [
        pytest.param(
            [
                "Traceback (most recent call last):",
                SAID.format("ERROR", "ValueError: tensor model.x has another shape"),
                "RuntimeError: Engine core initialization failed. See root cause above.",
            ],
            1,
            "ModelLoadFailed",
            "ValueError: tensor model.x has another shape",
            65,
            id="weights that do not fit, told before the line that only points to it",
        ),
        pytest.param(
            [
                "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
                "  Value error, Model architectures ['Nobody'] are not supported for now.",
            ],
            1,
            "EngineUnsupported",
            "Value error, Model architectures ['Nobody'] are not supported for now.",
            65,
            id="an architecture it does not know",
        ),
        pytest.param(
            [SAID.format("ERROR", "torch.OutOfMemoryError: CUDA out of memory.")],
            1,
            "InsufficientMemory",
            "torch.OutOfMemoryError: CUDA out of memory.",
            65,
            id="too little memory",
        ),
        pytest.param(
            [SAID.format("ERROR", "ValueError: Free memory on device cuda:0 is less than desired")],
            1,
            "Crash",
            "ValueError: Free memory on device cuda:0 is less than desired",
            70,
            id="a GPU that somebody else uses",
        ),
        pytest.param(
            ["OSError: [Errno 28] No space left on device"],
            1,
            "InsufficientStorage",
            "OSError: [Errno 28] No space left on device",
            75,
            id="a full disk",
        ),
        pytest.param([], 3, "Crash", "the vLLM server ended with 3", 70, id="no word at all"),
        pytest.param(
            ["ValueError: " + "x" * 9000, "more"],
            1,
            "ModelLoadFailed",
            ("ValueError: " + "x" * 9000)[:300],
            65,
            id="a long line",
        ),
    ],
)
def test_a_server_that_dies_while_it_loads_is_told_with_its_reason(
    make_vllm: Start,
    vllm_server: Standin,
    says: list[str],
    code: int,
    reason: str,
    message: str,
    exit_code: int,
) -> None:
    vllm_server.order(says=says, load_ends=code)
    engine = make_vllm()
    with pytest.raises(Failure) as caught:
        engine.load()
    failure = caught.value
    assert (failure.reason, failure.message, failure.exit_code) == (reason, message, exit_code)
    assert not engine.is_alive()


def test_a_server_that_is_killed_while_it_loads_may_be_tried_again(
    make_vllm: Start, vllm_server: Standin
) -> None:
    vllm_server.order(loads=True, says=["ImportError: no module named flash"])

    def kill() -> None:
        wait_until((vllm_server.folder / "started.json").exists, "a start")
        os.kill(vllm_server.started()["pid"], signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.raises(Failure, match="signal 9") as caught:
        make_vllm().load()
    killing.join()
    assert caught.value.exit_code == 70


def test_an_option_the_server_does_not_know_is_told(vllm_model: pathlib.Path) -> None:
    engine = VllmEngine(vllm_model, ["/bin/sh", "-c", "echo 'vllm: error: no --x' >&2; exit 2"])
    with pytest.raises(Failure, match="vllm: error: no --x"):
        engine.load()


def test_an_image_without_vllm_is_a_wrong_configuration(vllm_model: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="cannot start /nowhere/vllm: No such file"):
        VllmEngine(vllm_model, ["/nowhere/vllm"]).load()


@pytest.mark.parametrize("ignores_sigterm", [False, True])
def test_nothing_runs_on_once_it_is_closed(
    make_vllm: Start, vllm_server: Standin, ignores_sigterm: bool
) -> None:
    vllm_server.order(ignores_sigterm=ignores_sigterm, has_child=True)
    engine = make_vllm(end=0.2 if ignores_sigterm else 20)
    engine.load()
    pids = vllm_server.started()["pid"], int((vllm_server.folder / "child.pid").read_text())
    assert all(is_there(pid) for pid in pids)
    engine.close()
    wait_until(lambda: not any(is_there(pid) for pid in pids), "no process")
    assert not engine.is_alive()
    engine.close()


def test_what_it_warns_of_while_it_loads_is_told_within_a_limit(
    make_vllm: Start, vllm_server: Standin, told: list[str]
) -> None:
    # Where a part of a long line ends, the next begins as a line of its own would.
    long = SAID.format("WARNING", "long " * 5000)[:LONGEST_LINE] + "ERROR:    forged"
    vllm_server.order(
        says=["raw line", SAID.format("INFO", "calm"), long, "ERROR:    from uvicorn"]
    )
    make_vllm().load()
    wait_until(lambda: any("from uvicorn" in line for line in told), "its words")
    warned, failed = (json.loads(line) for line in told)
    assert (warned["level"], warned["at"]) == ("warning", "v1/engine/core.py:571")
    assert warned["message"] == ("long " * 60)
    assert failed["level"] == "error"
