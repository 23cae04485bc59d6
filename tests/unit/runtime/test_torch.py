"""The transformers engine with the trained stand-in: loaded, verified, asked, refused."""

import json
import pathlib
import shutil
import threading
from collections.abc import Callable
from typing import Any, Protocol

import httpx2
import models
import pytest

from chatmodel_runtime import prompts, scheduling
from chatmodel_runtime.engines import Cancelled, Sampling
from chatmodel_runtime.engines.torch import TorchEngine, count_threads
from chatmodel_runtime.errors import BadModel
from chatmodel_runtime.progress import Progress

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
GREEDY = Sampling()
QUESTION = prompts.build_triage_messages(prompts.VERIFICATION_QUERY, None)
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


@pytest.fixture(scope="module")
def stand_in() -> pathlib.Path:
    return models.made("qwen", models.make_qwen)


@pytest.fixture(scope="module")
def engine(stand_in: pathlib.Path) -> TorchEngine:
    loaded = TorchEngine(stand_in)
    loaded.load()
    return loaded


@pytest.fixture
def copy(stand_in: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(stand_in, tmp_path / "copy"))


def complete(engine: TorchEngine, **change: Any) -> Any:
    options: dict[str, Any] = {
        "max_tokens": 64,
        "sampling": GREEDY,
        "is_cancelled": lambda: False,
        "beat": lambda: None,
    }
    return engine.complete(QUESTION, **options | change)


def change_json(path: pathlib.Path, **change: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


async def answer(engine: TorchEngine, thinking: int, most: int) -> scheduling.Answer:
    scheduler = scheduling.Scheduler(engine, max_active=1, max_queued=1, deadline_seconds=60)
    scheduler._state = "ready"
    try:
        return await scheduler.answer(QUESTION, scheduling.Budget(thinking, most, GREEDY))
    finally:
        scheduler.close()


def test_the_template_opens_the_thinking(engine: TorchEngine) -> None:
    assert engine.opens_thinking()


async def test_thinking_and_answer_come_apart(engine: TorchEngine) -> None:
    made = await answer(engine, 64, 64)
    assert made.thinking and made.text
    assert (made.finish_reason, made.thinking_truncated) == ("stop", False)
    assert "think>" not in made.text and "<|" not in made.text


async def test_thinking_that_is_cut_still_gets_an_answer(engine: TorchEngine) -> None:
    made = await answer(engine, 2, 64)
    assert made.text and made.thinking_truncated


async def test_an_answer_that_is_cut_says_so(engine: TorchEngine) -> None:
    made = await answer(engine, 64, 2)
    assert (made.finish_reason, made.text != "") == ("length", True)


def test_generation_stops_with_the_given_word_and_beats_at_every_step(
    engine: TorchEngine,
) -> None:
    beats: list[None] = []
    made = complete(engine, stop="</think>", beat=lambda: beats.append(None))
    assert made.text.endswith("</think>") and made.finish_reason == "stop"
    assert len(beats) == made.tokens


def test_a_cancelled_generation_ends_at_its_next_step(engine: TorchEngine) -> None:
    event = threading.Event()
    with pytest.raises(Cancelled):
        complete(engine, beat=event.set, is_cancelled=event.is_set)


def test_top_k_of_zero_is_off(engine: TorchEngine) -> None:
    given = engine._generation_config(8, Sampling(0.7, 0.9, 0), None)
    used, _ = engine._model._prepare_generation_config(given)
    assert not used.top_k


def test_the_sampling_that_was_asked_for_is_used(engine: TorchEngine) -> None:
    given = engine._generation_config(8, Sampling(0.3, 0.8, 7), None)
    used, _ = engine._model._prepare_generation_config(given)
    assert (used.do_sample, used.temperature, used.top_p, used.top_k) == (True, 0.3, 0.8, 7)


def wider(folder: pathlib.Path) -> None:
    change_json(folder / "config.json", intermediate_size=512)


def longer(folder: pathlib.Path) -> None:
    change_json(folder / "config.json", num_hidden_layers=3, layer_types=["full_attention"] * 3)


def garbage(folder: pathlib.Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 1000)


def stranger(folder: pathlib.Path) -> None:
    change_json(folder / "config.json", model_type="nobody", architectures=["Nobody"])


@pytest.mark.parametrize("harm", [wider, longer, garbage, stranger])
def test_weights_that_do_not_fit_are_an_error(
    copy: pathlib.Path, harm: Callable[[pathlib.Path], None]
) -> None:
    harm(copy)
    with pytest.raises(BadModel) as caught:
        TorchEngine(copy).load()
    assert caught.value.reason == "ModelLoadFailed"


def test_a_model_without_chat_template_is_refused(copy: pathlib.Path) -> None:
    (copy / "chat_template.jinja").unlink(missing_ok=True)
    change_json(copy / "tokenizer_config.json", chat_template=None)
    with pytest.raises(BadModel) as caught:
        TorchEngine(copy).load()
    assert caught.value.reason == "ChatTemplateMissing"


def test_there_is_always_a_thread() -> None:
    assert count_threads() >= 1


def test_a_model_from_the_hub_is_staged_served_and_verified(
    start: Callable[..., Runtime],
    mirror: Mirror,
    stand_in: pathlib.Path,
    tmp_path: pathlib.Path,
    pod_config: dict[str, Any],
) -> None:
    from chatmodel_runtime import hub, model_manager, settings

    mirror.publish(models.QWEN, {path.name: path.read_bytes() for path in stand_in.iterdir()})
    client = hub.HubClient(settings.Hub(endpoint=mirror.endpoint))
    progress = Progress(COMMIT)
    folder = model_manager.stage(client, models.QWEN, COMMIT, tmp_path / "models", progress)
    config = pod_config | {
        "mode": "qwen",
        "engine": "Transformers",
        "modelID": models.QWEN,
        "commit": COMMIT,
        "modelDir": str(folder),
        "generation": {"temperature": 0.0, "maxNewTokens": 64, "maxThinkingTokens": 64},
    }
    runtime = start(CHATMODEL_CONFIG=json.dumps(config))
    verified = httpx2.post(f"{runtime.management}/verify", timeout=60).json()
    assert (verified["ok"], verified["commit"], verified["tokens"] <= 24) == (True, COMMIT, True)
    body = {"patient_mrn": "MRN-001", "query": "What are my current medications?"}
    answer = httpx2.post(
        f"{runtime.public}/triage", json=body, headers={"X-API-Key": "right"}, timeout=60
    ).json()
    assert "lisinopril" in answer["response"] and "think>" not in answer["response"]
    assert (answer["model"], answer["llm_mode"]) == (models.QWEN, "qwen")
