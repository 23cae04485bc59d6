"""The runtime's configuration: one JSON in pods, the origin's environment variables outside.

Read once by `commands`. What is unknown or contradictory is refused with one sentence.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import pydantic
from pydantic.alias_generators import to_camel

from chatmodel_runtime.errors import ConfigError

ENV_CONFIG = "CHATMODEL_CONFIG"
QWEN_MODEL_ID = "Qwen/Qwen3-4B-Thinking-2507"
QWEN_ALIASES = ("qwen", "Qwen3-4B-Thinking-2507")
COMMIT_LETTERS = 40
COMMIT = r"^[0-9a-f]{40}$"
FOLDER = r"^[A-Za-z0-9][-A-Za-z0-9._]*--[A-Za-z0-9][-A-Za-z0-9._]*/[0-9a-f]{40}(-Int[48])?$"
FILE = r"^[A-Za-z0-9][-A-Za-z0-9._+]{0,254}$"
ORIGIN = r"^https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?$"  # of a web page; never "*"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
MODEL_ID = r"^[A-Za-z0-9][-A-Za-z0-9._]*/[A-Za-z0-9][-A-Za-z0-9._]*$"


class Part(pydantic.BaseModel):
    """A part of the configuration; an unknown key is a mistake, not a wish."""

    model_config = pydantic.ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )


class Generation(Part):
    """Limits (tokens) and sampling defaults."""

    max_new_tokens: int = pydantic.Field(default=512, ge=1)
    max_thinking_tokens: int = pydantic.Field(default=1024, ge=0)
    temperature: float = pydantic.Field(default=0.7, ge=0, le=2)
    top_p: float = pydantic.Field(default=0.9, gt=0, le=1)
    top_k: int = pydantic.Field(default=0, ge=0)


class PatientContext(Part):
    """Where patients are found."""

    source: Literal["None", "Demo", "Http"] = "None"
    url: str | None = None


class Auth(Part):
    """Who may ask; `keysDir` is a mounted Secret, each file's value a key."""

    mode: Literal["ApiKey", "None"] = "ApiKey"
    keys_dir: pathlib.Path = pathlib.Path("/var/run/secrets/chatmodel/api-keys")


class Limits(Part):
    """Requests at once, in the queue and of a key; seconds for the rest."""

    max_concurrent_requests: int = pydantic.Field(default=8, ge=1)
    max_queued_requests: int = pydantic.Field(default=32, ge=0)
    request_deadline_seconds: float = pydantic.Field(default=600, gt=0)
    first_token_deadline_seconds: float = pydantic.Field(default=300, gt=0)
    idle_deadline_seconds: float = pydantic.Field(default=120, gt=0)
    stuck_step_seconds: float = pydantic.Field(default=60, gt=0)
    drain_seconds: float = pydantic.Field(default=10, ge=0)
    max_connection_age_seconds: float = pydantic.Field(default=5, gt=0)
    requests_per_minute_per_key: int | None = pydantic.Field(default=None, ge=1)  # None: any number
    body_seconds: float = pydantic.Field(default=10, gt=0)  # in which a request's body has to come


class Hub(Part):
    """Where models come from, and the file with the token, if there is one."""

    endpoint: str | None = None
    token_file: pathlib.Path | None = None
    token_pattern: str | None = None  # what is no token is not sent to anybody


class ServeConfig(Part):
    """What to serve, and as whom."""

    command: Literal["serve"]
    chat_model: str
    revision: str
    mode: Literal["mock", "qwen", "huggingface"]
    model_id: str | None = pydantic.Field(default=None, alias="modelID", pattern=MODEL_ID)
    commit: str | None = pydantic.Field(default=None, pattern=COMMIT)
    engine: Literal["Auto", "Mock", "Transformers", "OpenVINO", "VLLM"]  # in pods never Auto
    model_dir: pathlib.Path | None = None
    generation: Generation = Generation()
    patient_context: PatientContext = PatientContext()
    auth: Auth = Auth()
    limits: Limits = Limits()
    threads: int | None = pydantic.Field(default=None, ge=1)  # None: from the CPU quota
    # Web pages that browsers may let read the answers.
    allowed_origins: tuple[Annotated[str, pydantic.Field(pattern=ORIGIN)], ...] = ()
    development: bool = False  # the API describes itself on /docs and /openapi.json

    @pydantic.model_validator(mode="after")
    def _agrees(self) -> "ServeConfig":
        if (self.mode == "mock") != (self.engine == "Mock"):
            raise ValueError(f"mode {self.mode} and engine {self.engine} contradict each other")
        if self.mode != "mock" and (self.model_id is None or self.model_dir is None):
            raise ValueError(f"mode {self.mode} needs modelID and modelDir")
        if (self.patient_context.source == "Http") != (self.patient_context.url is not None):
            raise ValueError("patientContext.url is needed with source Http, and only then")
        return self


Quantization = Literal["None", "Int8", "Int4"]


class InspectConfig(Part):
    """Which model to find out about."""

    command: Literal["inspect"]
    chat_model: str
    revision: str
    model_id: str = pydantic.Field(alias="modelID", pattern=MODEL_ID)
    model_revision: str = "main"
    quantization: Quantization = "None"
    hub: Hub = Hub()


class StageConfig(Part):
    """Which commit to fetch, and where to."""

    command: Literal["stage"]
    chat_model: str
    revision: str
    model_id: str = pydantic.Field(alias="modelID", pattern=MODEL_ID)
    commit: str = pydantic.Field(pattern=COMMIT)
    quantization: Quantization = "None"
    # What the inspection chose; None: it is chosen now.
    files: tuple[Annotated[str, pydantic.Field(pattern=FILE)], ...] | None = None
    models_root: pathlib.Path
    # The folders there that are still needed; None: nothing is removed.
    keep: tuple[Annotated[str, pydantic.Field(pattern=FOLDER)], ...] | None = None
    hub: Hub = Hub()


CONFIGS: dict[str, type[Part]] = {
    "serve": ServeConfig,
    "inspect": InspectConfig,
    "stage": StageConfig,
}


def read_config(command: str, text: str) -> Part:
    """Return the configuration of a command. Raises `ConfigError` naming the first wrong field."""
    try:
        body = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{ENV_CONFIG} is not JSON: {error}") from None
    if not isinstance(body, dict) or body.get("command") != command:
        raise ConfigError(f"{ENV_CONFIG} is not for the command {command}")
    try:
        return CONFIGS[command].model_validate(body, by_alias=True, by_name=False)
    except pydantic.ValidationError as error:
        raise ConfigError(f"{ENV_CONFIG}: {first_fault(error)}") from None


def first_fault(error: pydantic.ValidationError) -> str:
    """Return where and what the first fault is, without the value."""
    fault = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where}: {fault['msg']}" if where else str(fault["msg"])


def read_environment(env: Mapping[str, str]) -> ServeConfig:
    """Return the configuration of a standalone server from the origin's variables.

    Raises `ConfigError`. A model is served from where `download` puts it.
    """
    mode = env.get("LLM_MODE") or env.get("DEFAULT_LLM_MODE") or "mock"
    mode = "qwen" if mode in QWEN_ALIASES else mode
    if mode not in ("mock", "qwen", "huggingface"):
        raise ConfigError(f"LLM_MODE={mode} is unknown: use mock, qwen or huggingface")
    url = env.get("DB_API_BASE_URL") or None
    source = (env.get("PATIENT_CONTEXT") or ("http" if url else "none")).capitalize()
    keys = env.get("API_KEYS_FILE")
    body: dict[str, Any] = {
        "command": "serve",
        "chatModel": "standalone",
        "revision": "standalone",
        "mode": mode,
        "engine": env.get("ENGINE") or ("Mock" if mode == "mock" else "Auto"),
        "patientContext": {"source": source, "url": url if source == "Http" else None},
        "auth": {"mode": "ApiKey", "keysDir": keys} if keys else {"mode": "None"},
        "allowedOrigins": env.get("ALLOWED_ORIGINS", "").replace(",", " ").split(),
        "development": env.get("DEVELOPMENT", "") == "1",
        "limits": {"requestsPerMinutePerKey": env.get("REQUESTS_PER_MINUTE_PER_KEY") or None},
    }
    if mode != "mock":
        body |= _local_model(mode, env)
    try:
        return ServeConfig.model_validate(body)
    except pydantic.ValidationError as error:
        raise ConfigError(first_fault(error)) from None


def standalone_model_id(env: Mapping[str, str]) -> str:
    """Return the model a standalone `download` or server is about."""
    mode = env.get("LLM_MODE") or env.get("DEFAULT_LLM_MODE") or "qwen"
    if mode in ("mock", *QWEN_ALIASES):
        return QWEN_MODEL_ID
    model_id = env.get("MODEL_ID", "")
    if not model_id:
        raise ConfigError(f"LLM_MODE={mode} needs MODEL_ID, as HuggingFaceTB/SmolLM2-135M-Instruct")
    return model_id


def quantization(env: Mapping[str, str]) -> str:
    """Return which weights a standalone `download` is about. Raises `ConfigError`."""
    word = env.get("QUANTIZATION") or "None"
    if word not in get_args(Quantization):
        raise ConfigError(
            f"QUANTIZATION={word} is unknown: use {', '.join(get_args(Quantization))}"
        )
    return word


def port(env: Mapping[str, str], name: str, default: int) -> int:
    """Return a port of the environment. Raises `ConfigError`."""
    text = env.get(name) or str(default)
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ConfigError(f"{name}={text} is not a port")
    return int(text)


def log_level(env: Mapping[str, str]) -> str:
    """Return how much our own modules say. Raises `ConfigError`."""
    level = (env.get("LOG_LEVEL") or "INFO").upper()
    if level not in LOG_LEVELS:
        raise ConfigError(f"LOG_LEVEL={level} is unknown: use {', '.join(LOG_LEVELS)}")
    return level


def folder_of(commit: str, quantization: str) -> str:
    """Return the name of a staged commit's folder: each quantization lies for itself."""
    return commit if quantization == "None" else f"{commit}-{quantization}"


def cache_dir(env: Mapping[str, str]) -> pathlib.Path:
    """Return where standalone models lie."""
    return pathlib.Path(env.get("MODEL_CACHE_DIR") or "./models")


def _local_model(mode: str, env: Mapping[str, str]) -> dict[str, Any]:
    model_id = standalone_model_id(env)
    folder = cache_dir(env) / model_id.replace("/", "--")
    name = folder_of("?" * COMMIT_LETTERS, quantization(env))
    complete = sorted(folder.glob(f"{name}/COMPLETE"), key=lambda path: path.stat().st_mtime)
    if not complete:
        raise ConfigError(f"{model_id} is not in {folder}: run `make download-model` first")
    where = complete[-1].parent
    return {"modelID": model_id, "commit": where.name[:COMMIT_LETTERS], "modelDir": str(where)}
