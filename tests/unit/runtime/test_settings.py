"""What configurations are taken, and what is said of the others."""

import json
import pathlib
from typing import Any

import pytest

from chatmodel_runtime import settings
from chatmodel_runtime.errors import ConfigError

COMMIT = "a" * 40
MOCK: dict[str, Any] = {
    "command": "serve",
    "chatModel": "triage",
    "revision": "triage-6f3a2c",
    "mode": "mock",
    "engine": "Mock",
}
REAL = MOCK | {
    "mode": "huggingface",
    "engine": "Transformers",
    "modelID": "org/name",
    "commit": COMMIT,
    "modelDir": f"/models/org--name/{COMMIT}",
}
INSPECT = {
    "command": "inspect",
    "chatModel": "triage",
    "revision": "triage-6f3a2c",
    "modelID": "org/name",
}
STAGE = {
    "command": "stage",
    "chatModel": "triage",
    "revision": "triage-6f3a2c",
    "modelID": "org/name",
    "commit": COMMIT,
    "modelsRoot": "/models",
    "hub": {"endpoint": "http://hub.hub", "tokenFile": None},
}


def serve(body: dict[str, Any]) -> settings.ServeConfig:
    read = settings.read_config("serve", json.dumps(body))
    assert isinstance(read, settings.ServeConfig)
    return read


def test_what_is_not_said_has_the_defaults_of_the_design() -> None:
    config = serve(MOCK)
    given = config.generation
    assert (given.max_new_tokens, given.max_thinking_tokens) == (512, 1024)
    assert (given.temperature, given.top_p, given.top_k) == (0.7, 0.9, 0)
    assert config.auth.mode == "ApiKey"
    assert config.patient_context.source == "None"
    limits = config.limits
    assert (limits.request_deadline_seconds, limits.drain_seconds) == (600, 10)


def test_the_whole_configuration_of_the_contract_is_taken() -> None:
    config = serve(
        REAL
        | {
            "generation": {"maxNewTokens": 64, "maxThinkingTokens": 0, "temperature": 0.0},
            "patientContext": {"source": "Http", "url": "http://db"},
            "auth": {"mode": "None", "keysDir": "/keys"},
            "limits": {"maxConcurrentRequests": 1, "maxQueuedRequests": 0, "drainSeconds": 1},
        }
    )
    assert (config.model_id, config.commit) == ("org/name", COMMIT)
    assert config.patient_context.url == "http://db"


def test_the_configuration_of_stage_is_taken() -> None:
    read = settings.read_config("stage", json.dumps(STAGE))
    assert isinstance(read, settings.StageConfig)
    assert read.models_root == pathlib.Path("/models")
    assert (read.keep, read.files, read.quantization) == (None, None, "None")


@pytest.mark.parametrize("files", [["model.safetensors"], ["a-Q4_0.gguf"], []])
def test_the_files_that_were_chosen_are_taken(files: list[str]) -> None:
    read = settings.read_config("stage", json.dumps(STAGE | {"files": files}))
    assert isinstance(read, settings.StageConfig)
    assert read.files == tuple(files)


@pytest.mark.parametrize("name", ["../config.json", "a/b.gguf", ".hidden", "", "a" * 256, "a b"])
def test_a_chosen_file_is_a_plain_name(name: str) -> None:
    with pytest.raises(ConfigError, match="files"):
        settings.read_config("stage", json.dumps(STAGE | {"files": [name]}))


@pytest.mark.parametrize("command", ["inspect", "stage"])
def test_a_quantization_that_is_unknown_is_refused(command: str) -> None:
    body = STAGE if command == "stage" else INSPECT
    for word in ("None", "Int8", "Int4"):
        assert settings.read_config(command, json.dumps(body | {"quantization": word}))
    with pytest.raises(ConfigError, match="quantization"):
        settings.read_config(command, json.dumps(body | {"quantization": "int4"}))


def test_what_is_kept_is_told_from_nothing_said() -> None:
    for keep in ([], [f"org--name/{COMMIT}"], [f"org--name/{COMMIT}-Int4"]):
        read = settings.read_config("stage", json.dumps(STAGE | {"keep": keep}))
        assert isinstance(read, settings.StageConfig)
        assert read.keep == tuple(keep)


@pytest.mark.parametrize(
    "name",
    ["org/name", f"org--name/{COMMIT}-Int2", f"../{COMMIT}", f"org--name/../{COMMIT}", "", "/"],
)
def test_what_is_kept_must_be_named_as_it_lies(name: str) -> None:
    with pytest.raises(ConfigError, match="keep"):
        settings.read_config("stage", json.dumps(STAGE | {"keep": [name]}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"surprise": 1}, "surprise", id="an unknown key"),
        pytest.param({"limits": {"surprise": 1}}, "limits.surprise", id="an unknown key inside"),
        pytest.param({"mode": "gguf"}, "mode", id="an unknown mode"),
        pytest.param({"engine": "Ollama"}, "engine", id="an engine that is not known"),
        pytest.param({"engine": "Transformers"}, "contradict", id="mock with a real engine"),
        pytest.param({"mode": "qwen"}, "contradict", id="a real mode with the mock engine"),
        pytest.param({"modelID": "../x"}, "modelID", id="a model id that climbs"),
        pytest.param({"modelID": "name"}, "modelID", id="a model id without organisation"),
        pytest.param({"commit": "main"}, "commit", id="a branch for a commit"),
        pytest.param({"commit": "a" * 40 + "\n"}, "commit", id="a commit with a line break"),
        pytest.param({"generation": {"topP": 0}}, "generation.topP", id="top-p of zero"),
        pytest.param({"generation": {"maxNewTokens": 0}}, "maxNewTokens", id="no answer tokens"),
        pytest.param({"patientContext": {"source": "Http"}}, "url", id="a source without URL"),
        pytest.param(
            {"patientContext": {"source": "Demo", "url": "http://db"}}, "url", id="a URL too many"
        ),
        pytest.param({"command": "stage"}, "not for the command", id="another command"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        serve(MOCK | change)
    assert caught.value.exit_code == 64
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("missing", ["modelID", "modelDir"])
def test_a_real_mode_needs_to_know_its_model(missing: str) -> None:
    with pytest.raises(ConfigError, match=missing):
        serve({key: value for key, value in REAL.items() if key != missing})


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        settings.read_config("serve", text)


def test_a_refused_value_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        serve(MOCK | {"modelID": "hf_secretsecret"})
    assert "hf_secretsecret" not in caught.value.message


@pytest.mark.parametrize(
    ("env", "mode", "source", "auth"),
    [
        pytest.param({}, "mock", "None", "None", id="nothing said"),
        pytest.param({"DEFAULT_LLM_MODE": "mock"}, "mock", "None", "None", id="the newer name"),
        pytest.param({"PATIENT_CONTEXT": "demo"}, "mock", "Demo", "None", id="demo patients"),
        pytest.param({"DB_API_BASE_URL": "http://db"}, "mock", "Http", "None", id="a patient API"),
        pytest.param(
            {"DB_API_BASE_URL": "http://db", "PATIENT_CONTEXT": "none"},
            "mock",
            "None",
            "None",
            id="a patient API that is turned off",
        ),
        pytest.param({"API_KEYS_FILE": "keys"}, "mock", "None", "ApiKey", id="keys"),
    ],
)
def test_the_origins_variables_are_read(
    env: dict[str, str], mode: str, source: str, auth: str
) -> None:
    config = settings.read_environment(env)
    assert (config.mode, config.patient_context.source, config.auth.mode) == (mode, source, auth)


def test_llm_mode_wins_over_its_newer_name() -> None:
    assert settings.read_environment({"LLM_MODE": "mock", "DEFAULT_LLM_MODE": "qwen"}).mode == (
        "mock"
    )


@pytest.mark.parametrize("mode", ["qwen", "Qwen3-4B-Thinking-2507"])
def test_qwen_is_served_from_where_download_puts_it(mode: str, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "Qwen--Qwen3-4B-Thinking-2507" / COMMIT
    folder.mkdir(parents=True)
    (folder / "COMPLETE").touch()
    config = settings.read_environment({"LLM_MODE": mode, "MODEL_CACHE_DIR": str(tmp_path)})
    assert (config.mode, config.model_id) == ("qwen", "Qwen/Qwen3-4B-Thinking-2507")
    assert (config.commit, config.model_dir) == (COMMIT, folder)


@pytest.mark.parametrize(
    ("word", "folder"), [("", COMMIT), ("None", COMMIT), ("Int4", f"{COMMIT}-Int4")]
)
def test_of_a_commit_the_quantization_that_was_said_is_served(
    word: str, folder: str, tmp_path: pathlib.Path
) -> None:
    for name in (COMMIT, f"{COMMIT}-Int4", f"{COMMIT}-Int8"):
        (tmp_path / "org--name" / name).mkdir(parents=True)
        (tmp_path / "org--name" / name / "COMPLETE").touch()
    env = {"LLM_MODE": "huggingface", "MODEL_ID": "org/name", "MODEL_CACHE_DIR": str(tmp_path)}
    config = settings.read_environment(env | {"QUANTIZATION": word})
    assert (config.commit, config.model_dir) == (COMMIT, tmp_path / "org--name" / folder)


def test_a_quantization_of_the_environment_that_is_unknown_is_refused() -> None:
    with pytest.raises(ConfigError, match="QUANTIZATION=int4 is unknown: use None, Int8, Int4"):
        settings.quantization({"QUANTIZATION": "int4"})


def test_a_model_that_is_only_half_there_is_not_served(tmp_path: pathlib.Path) -> None:
    (tmp_path / "Qwen--Qwen3-4B-Thinking-2507" / COMMIT).mkdir(parents=True)
    with pytest.raises(ConfigError, match="download"):
        settings.read_environment({"LLM_MODE": "qwen", "MODEL_CACHE_DIR": str(tmp_path)})


def test_huggingface_without_a_model_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match="MODEL_ID"):
        settings.read_environment({"LLM_MODE": "huggingface"})


@pytest.mark.parametrize("engine", ["Auto", "Transformers", "OpenVINO", "VLLM"])
def test_the_engine_of_a_model_may_be_said(engine: str, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "Qwen--Qwen3-4B-Thinking-2507" / COMMIT
    folder.mkdir(parents=True)
    (folder / "COMPLETE").touch()
    env = {"LLM_MODE": "qwen", "MODEL_CACHE_DIR": str(tmp_path), "ENGINE": engine}
    assert settings.read_environment(env).engine == engine


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        pytest.param("VLLM", "mode mock and engine VLLM contradict each other", id="of no mock"),
        pytest.param("vllm", "engine: Input should be 'Auto'", id="in another spelling"),
    ],
)
def test_an_engine_that_cannot_be_is_refused(engine: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        settings.read_environment({"LLM_MODE": "mock", "ENGINE": engine})


@pytest.mark.parametrize(("text", "most"), [("", None), ("60", 60)])
def test_how_often_a_key_may_ask_is_a_variable(text: str, most: int | None) -> None:
    config = settings.read_environment({"REQUESTS_PER_MINUTE_PER_KEY": text})
    assert config.limits.requests_per_minute_per_key == most


@pytest.mark.parametrize("text", ["0", "many"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="requestsPerMinutePerKey"):
        settings.read_environment({"REQUESTS_PER_MINUTE_PER_KEY": text})


def test_an_unknown_mode_is_called_unknown() -> None:
    with pytest.raises(ConfigError) as caught:
        settings.read_environment({"LLM_MODE": "gpt"})
    assert "MODEL_ID" not in caught.value.message


def test_only_the_spelling_of_the_contract_is_taken() -> None:
    with pytest.raises(ConfigError):
        serve(
            {key: value for key, value in MOCK.items() if key != "chatModel"} | {"chat_model": "x"}
        )


@pytest.mark.parametrize(("text", "level"), [("", "INFO"), ("debug", "DEBUG"), ("ERROR", "ERROR")])
def test_how_much_is_said_is_a_variable(text: str, level: str) -> None:
    assert settings.log_level({"LOG_LEVEL": text}) == level


def test_a_level_that_is_unknown_is_refused() -> None:
    with pytest.raises(ConfigError, match="LOG_LEVEL=LOUD is unknown: use DEBUG"):
        settings.log_level({"LOG_LEVEL": "loud"})
