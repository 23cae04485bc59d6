"""What operator and runtime must agree on: configuration, reports, answers."""

import asyncio
import contextlib
import dataclasses
import json
import pathlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from pictures import COMMIT, NAME, SETTINGS, Body, make_revision, raw_pod
from rendered import (
    BUILT_IN,
    EMBEDDED,
    GATED,
    GGUF,
    HUGGINGFACE,
    MOCK,
    PERSISTENT,
    QWEN,
    TOKEN,
    config,
    prepared,
)

from chatmodel_operator import names, observed, reading, runtime_client
from chatmodel_operator.api.chatmodelrevision import Inspection
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.settings import Hub
from chatmodel_runtime import draining, hub, management, model_manager, scheduling, settings
from chatmodel_runtime.engines.mock import MockEngine
from chatmodel_runtime.progress import Progress

MIRRORED = BUILT_IN.model_copy(update={"hub": Hub(endpoint="http://hub.test")})
SPECS = [
    pytest.param(MOCK, id="mock"),
    pytest.param(MOCK | {"auth": {"mode": "None"}}, id="mock without keys"),
    pytest.param(MOCK | {"patientContext": {"source": "Demo"}}, id="mock with demo patients"),
    pytest.param(QWEN, id="qwen"),
    pytest.param(QWEN | {"model": {"tokenSecretRef": TOKEN}}, id="qwen with a token"),
    pytest.param(HUGGINGFACE, id="a public model"),
    pytest.param(GATED, id="a gated model"),
    pytest.param(GGUF, id="a GGUF file"),
    pytest.param(PERSISTENT, id="a model on a claim"),
    pytest.param(GGUF | {"cache": PERSISTENT["cache"]}, id="a GGUF file on a claim"),
    pytest.param(GATED | {"cache": PERSISTENT["cache"]}, id="a gated model on a claim"),
    pytest.param(EMBEDDED, id="a model in its image"),
]
FETCHED = SPECS[3:-1]
EXTREMES = [
    pytest.param(
        {"maxNewTokens": 1, "maxThinkingTokens": 0, "temperature": 0, "topP": 0.01, "topK": 0},
        id="the least of everything",
    ),
    pytest.param(
        {"maxNewTokens": 32768, "maxThinkingTokens": 65536, "temperature": 2, "topP": 1}
        | {"topK": 1000},
        id="the most of everything",
    ),
]


def read(spec: Body, command: str) -> settings.Part:
    return settings.read_config(command, json.dumps(config(spec, command, MIRRORED)))


@pytest.mark.parametrize("spec", SPECS)
def test_the_configuration_of_serve_is_understood_as_it_was_meant(spec: Body) -> None:
    found, which = read(spec, "serve"), prepared(spec)
    assert isinstance(found, settings.ServeConfig)
    source = which.spec.source
    assert (found.chat_model, found.revision) == (NAME, which.name)
    assert (found.mode, found.model_id) == (source.mode, source.model_id)
    assert (found.commit, found.engine) == (which.spec.commit, which.spec.engine)
    assert found.generation.model_dump() == source.generation.model_dump()
    assert found.patient_context.model_dump() == source.patient_context.model_dump()
    assert found.auth.mode == source.auth.mode
    assert found.limits.request_deadline_seconds == SETTINGS.timings.request_deadline_seconds
    assert found.limits.drain_seconds == SETTINGS.timings.drain_seconds


def test_how_often_a_key_may_ask_is_the_administrators_choice() -> None:
    limits = MIRRORED.limits.model_copy(update={"requests_per_minute_per_key": 60})
    chosen = MIRRORED.model_copy(update={"limits": limits})
    for which, most in ((MIRRORED, None), (chosen, 60)):
        found = settings.read_config("serve", json.dumps(config(MOCK, "serve", which)))
        assert isinstance(found, settings.ServeConfig)
        assert found.limits.requests_per_minute_per_key == most


def test_web_pages_that_may_read_the_answers_are_the_administrators_choice() -> None:
    page = "https://chat.example.org"
    network = MIRRORED.network.model_copy(update={"allowed_origins": (page,)})
    chosen = MIRRORED.model_copy(update={"network": network})
    found = settings.read_config("serve", json.dumps(config({"mode": "mock"}, "serve", chosen)))
    assert isinstance(found, settings.ServeConfig)
    assert found.allowed_origins == (page,)


@pytest.mark.parametrize("spec", FETCHED)
def test_the_configuration_of_inspect_is_understood_as_it_was_meant(spec: Body) -> None:
    found, source = read(spec, "inspect"), prepared(spec).spec.source
    assert isinstance(found, settings.InspectConfig)
    assert (found.model_id, found.model_revision) == (source.model_id, source.model_revision)
    assert found.quantization == source.quantization
    assert found.hub.endpoint == "http://hub.test"
    assert (found.hub.token_file is None) == ("tokenSecretRef" not in spec.get("model", {}))


@pytest.mark.parametrize("spec", FETCHED)
def test_the_configuration_of_stage_is_understood_as_it_was_meant(spec: Body) -> None:
    found, meant = read(spec, "stage"), prepared(spec).spec
    assert isinstance(found, settings.StageConfig)
    assert (found.model_id, found.commit) == (meant.source.model_id, COMMIT)
    assert found.quantization == meant.source.quantization
    assert found.files is not None and list(found.files) == meant.files
    assert found.hub.endpoint == "http://hub.test"
    assert (found.hub.token_file is None) == ("tokenSecretRef" not in spec.get("model", {}))


def folder_of(found: settings.StageConfig, root: pathlib.Path) -> pathlib.Path:
    """Return where the runtime puts what it stages."""
    return model_manager.model_folder(root, found.model_id, found.commit, found.quantization)


def test_what_must_stay_on_a_claim_is_understood_and_only_there() -> None:
    in_pod = read(QWEN, "stage")
    assert isinstance(in_pod, settings.StageConfig)
    assert in_pod.keep is None
    for spec in (PERSISTENT, GGUF | {"cache": PERSISTENT["cache"]}):
        on_claim = read(spec, "stage")
        assert isinstance(on_claim, settings.StageConfig)
        assert on_claim.keep == (str(folder_of(on_claim, pathlib.Path())),)


@pytest.mark.parametrize("generation", EXTREMES)
def test_what_the_schema_allows_the_runtime_takes(generation: Body) -> None:
    found = read(MOCK | {"generation": generation}, "serve")
    assert isinstance(found, settings.ServeConfig)
    assert found.generation.model_dump(by_alias=True) == generation


def test_a_model_in_its_image_is_looked_for_where_the_image_has_it() -> None:
    looks = read(EMBEDDED, "serve")
    assert isinstance(looks, settings.ServeConfig)
    root = pathlib.Path(names.MODELS_ROOT)
    assert looks.model_dir == model_manager.model_folder(root, str(looks.model_id), COMMIT)


@pytest.mark.parametrize("spec", FETCHED)
def test_stage_puts_the_model_where_serve_looks_for_it(spec: Body) -> None:
    looks, puts = read(spec, "serve"), read(spec, "stage")
    assert isinstance(looks, settings.ServeConfig)
    assert isinstance(puts, settings.StageConfig)
    assert folder_of(puts, puts.models_root) == looks.model_dir


def test_the_hubs_token_is_read_where_it_is_mounted() -> None:
    for command in ("inspect", "stage"):
        where = config(GATED, command)["hub"]["tokenFile"]
        assert where == f"{names.HUB_TOKEN_DIR}/{TOKEN['key']}"


class OneModelHub:
    """A hub with one model, by its interface; the real one is tested over HTTP elsewhere."""

    files: dict[str, Any]

    def __init__(self, **shape: Any) -> None:
        self.files = {
            "config.json": json.dumps(shape),
            "tokenizer_config.json": json.dumps({"chat_template": "{{ x }}<think>"}),
            "model.safetensors": "weights",
        }

    def list_files(self, model_id: str, wanted: str) -> hub.Listing:
        found = (hub.RemoteFile(name, len(text), None) for name, text in self.files.items())
        return hub.Listing(COMMIT, tuple(found))

    def fetch(
        self, model_id: str, commit: str, file: hub.RemoteFile, folder: pathlib.Path
    ) -> pathlib.Path:
        path = folder / file.name
        path.write_text(self.files[file.name])
        return path


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(
            {"num_attention_heads": 4, "hidden_size": 96, "num_hidden_layers": 2}, id="usual"
        ),
        pytest.param({}, id="a shape that says nothing of its cache"),
    ],
)
def test_the_report_of_an_inspection_is_an_inspection(shape: Body) -> None:
    client: Any = OneModelHub(**shape)
    report = json.loads(json.dumps(model_manager.inspect(client, "org/tiny", "main")))
    found = Inspection.model_validate(report)
    assert found.dump() == {key: value for key, value in report.items() if value is not None}
    assert found.thinking


@pytest.fixture
def address() -> str:
    """Return a loopback address of this test's own: the operator knows one management port."""
    return f"127.{random.randint(64, 127)}.{random.randint(1, 254)}.{random.randint(1, 254)}"


@contextlib.asynccontextmanager
async def listening(app: Any, address: str) -> AsyncIterator[None]:
    """Serve an application on the management port of an address."""
    options = uvicorn.Config(
        app, host=address, port=names.MANAGEMENT_PORT, log_config=None, lifespan="off"
    )
    server = uvicorn.Server(options)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), "the management port could not be opened"
        await asyncio.sleep(0.005)
    try:
        yield
    finally:
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def serving(spec: Body, address: str) -> AsyncIterator[observed.Pod]:
    """Yield a pod with a spec's identity: the real management application, the mock engine."""
    found = read(spec, "serve")
    assert isinstance(found, settings.ServeConfig)
    deadlines = scheduling.Deadlines(total=30, first=30, idle=30)
    scheduler = scheduling.Scheduler(MockEngine(), scheduling.Room(1, 1), deadlines)
    verifier = management.Verifier(found, scheduler)

    async def warm_up() -> None:
        await verifier.ask()

    await scheduler.start(warm_up)
    app = management.build_serve_app(scheduler, verifier, management.MainLoop(), draining.Drain(0))
    pod = reading.read_pod(raw_pod(prepared(spec), ready=True))
    async with listening(app, address):
        yield dataclasses.replace(pod, ip=address)
    scheduler.close()


@pytest.mark.parametrize("spec", SPECS)
async def test_the_answer_to_verify_is_taken_for_right(spec: Body, address: str) -> None:
    async with serving(spec, address) as pod:
        answer = await runtime_client.verify(NAME, prepared(spec), pod)
    assert (answer.reason, answer.message) == (None, "")
    assert answer.tokens > 0


@pytest.mark.parametrize(
    ("chatmodel", "other", "keys"),
    [
        pytest.param("another", prepared(MOCK), {"chatModel"}, id="another ChatModel"),
        pytest.param(
            NAME,
            make_revision(2, filled={"engine": "Mock"}),
            {"revision"},
            id="another revision",
        ),
        pytest.param(
            NAME, prepared(QWEN), {"mode", "modelID", "commit", "engine"}, id="another model"
        ),
    ],
)
async def test_who_answers_verify_is_compared(
    address: str, chatmodel: str, other: observed.Revision, keys: set[str]
) -> None:
    async with serving(MOCK, address) as pod:
        answer = await runtime_client.verify(chatmodel, other, pod)
    assert answer.reason is Reason.VerificationFailed
    assert set(answer.message.rpartition(": ")[2].split(", ")) == keys


async def test_progress_is_understood(address: str) -> None:
    progress = Progress(COMMIT)
    progress.total_bytes = 1000
    said = progress.read()
    pod = dataclasses.replace(reading.read_pod(raw_pod(prepared(QWEN))), ip=address)
    async with listening(management.build_progress_app(progress.read), address):
        assert await runtime_client.progress(pod) == (said["totalBytes"], said["doneBytes"])
