"""The transformers engine with the trained stand-in: loaded, verified, asked, refused."""

import asyncio
import contextlib
import json
import pathlib
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

import httpx2
import models
import pytest

from chatmodel_runtime import generating, prompts
from chatmodel_runtime.engines import BadOutput, EngineDead, Request, Sampling, machine
from chatmodel_runtime.engines.torch import PAGE_TOKENS, TorchEngine
from chatmodel_runtime.errors import BadModel
from chatmodel_runtime.progress import Progress

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
GREEDY = Sampling()
MESSAGES = prompts.build_triage_messages(prompts.VERIFICATION_QUERY, None)
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
def engine(stand_in: pathlib.Path) -> Iterator[TorchEngine]:
    loaded = TorchEngine(stand_in)
    loaded.load()
    yield loaded
    loaded.close()
    assert not loaded.is_alive()


@pytest.fixture
def copy(stand_in: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(stand_in, tmp_path / "copy"))


def change_json(path: pathlib.Path, **change: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


async def answer(
    engine: TorchEngine, thinking: int = 64, most: int = 64, sampling: Sampling = GREEDY
) -> generating.Answer:
    prompt = generating.build_prompt(engine.tokenizer, MESSAGES)
    budget = generating.Budget(thinking, most, sampling)
    generation = generating.Generation(engine, prompt, budget)
    async for _ in generation.run():
        pass
    return generation.answer


def request(engine: TorchEngine, text: str, most: int = 8, **options: Any) -> Request:
    return Request(engine.tokenizer.encode(text), most, **options)


async def collect(engine: TorchEngine, asked: Request) -> list[int]:
    async with contextlib.aclosing(engine.submit(asked)) as steps:
        return [token async for step in steps for token in step.tokens]


async def test_thinking_and_answer_come_apart(engine: TorchEngine) -> None:
    made = await answer(engine)
    assert made.thinking and made.text
    assert (made.finish_reason, made.thinking_truncated) == ("stop", False)
    assert "think>" not in made.text and "<|" not in made.text


async def test_thinking_that_is_cut_still_gets_an_answer(engine: TorchEngine) -> None:
    made = await answer(engine, thinking=2)
    assert made.text and made.thinking_truncated


async def test_an_answer_that_is_cut_says_so(engine: TorchEngine) -> None:
    made = await answer(engine, most=4)
    assert (made.finish_reason, made.text != "") == ("length", True)


async def test_requests_run_side_by_side_and_get_what_they_get_alone(engine: TorchEngine) -> None:
    asked = [request(engine, f"question {number}", 12) for number in range(6)]
    alone = [await collect(engine, one) for one in asked]
    together = await asyncio.gather(*(collect(engine, one) for one in asked))
    # Sums differ by a rounding in a batch; the first token is no near tie in the stand-in.
    assert [tokens[0] for tokens in together] == [tokens[0] for tokens in alone]


async def test_a_generation_that_is_left_is_cancelled_and_leaves_nothing(
    engine: TorchEngine,
) -> None:
    manager = engine._manager
    async with contextlib.aclosing(engine.submit(request(engine, "a b", 500))) as steps:
        await anext(steps)
    assert manager.output_router.result_handlers == {}
    assert await collect(engine, request(engine, "a", 2))
    scheduler = manager.batch_processor.scheduler
    assert not scheduler.active_requests and not scheduler.waiting_requests


async def test_a_prompt_of_the_whole_context_is_answered(engine: TorchEngine) -> None:
    tokens = engine.tokenizer.encode("a") * engine.context_tokens
    assert len(await collect(engine, Request(tokens[: engine.context_tokens - 2], 2))) <= 2


async def test_each_request_has_its_own_sampling(engine: TorchEngine) -> None:
    hot = Sampling(temperature=2.0)
    asked = [request(engine, "a b", 16, sampling=s) for s in (GREEDY, hot, hot, hot, GREEDY)]
    first, *drawn, last = await asyncio.gather(*(collect(engine, one) for one in asked))
    assert first == last
    assert len({tuple(tokens) for tokens in drawn}) > 1
    one = Sampling(temperature=2.0, top_k=1)
    assert await collect(engine, request(engine, "a b", 16, sampling=one)) == first


def count_kept(engine: TorchEngine) -> list[int]:
    allocators = engine._manager.batch_processor.cache.cache_allocators.values()
    return [len(allocator.ledger.hash_to_block) for allocator in allocators]


async def test_what_is_kept_for_others_is_the_system_message_alone(engine: TorchEngine) -> None:
    tokens = engine.tokenizer.encode("word " * 200)
    assert len(tokens) > 3 * PAGE_TOKENS
    before = count_kept(engine)
    await collect(engine, Request(tokens, 2))
    assert count_kept(engine) == before
    await collect(engine, Request(tokens, 2, shared=PAGE_TOKENS * 2 + 1))
    assert count_kept(engine) == [count + 2 for count in before]


async def test_a_model_whose_output_is_no_number_is_told_and_does_not_hang(
    stand_in: pathlib.Path,
) -> None:
    import torch

    broken = TorchEngine(stand_in)
    broken.load()
    with torch.no_grad():
        broken._manager.model.get_output_embeddings().weight.fill_(float("nan"))
    try:
        with pytest.raises(BadOutput):
            await collect(broken, request(broken, "a"))
        assert broken.is_alive()
    finally:
        broken.close()


@pytest.fixture
async def dying(stand_in: pathlib.Path) -> AsyncIterator[TorchEngine]:
    loaded = TorchEngine(stand_in)
    loaded.load()
    loaded._manager.model.get_input_embeddings().register_forward_hook(_fail)
    yield loaded
    loaded.close()


def _fail(*_: Any) -> None:
    raise RuntimeError("as told")


async def test_a_batching_thread_that_dies_fails_its_requests(dying: TorchEngine) -> None:
    for _ in range(2):
        with pytest.raises(EngineDead):
            await collect(dying, request(dying, "a"))
    assert not dying.is_alive()


def test_a_model_that_does_not_fit_is_refused_with_both_numbers(
    stand_in: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "memory_limit", lambda: 10**8)
    with pytest.raises(BadModel, match=r"needs 0\.\d+ GB.*0\.10 GB may be used") as caught:
        TorchEngine(stand_in).load()
    assert caught.value.reason == "InsufficientMemory"


def wider(folder: pathlib.Path) -> None:
    change_json(folder / "config.json", intermediate_size=512)


def longer(folder: pathlib.Path) -> None:
    change_json(folder / "config.json", num_hidden_layers=3, layer_types=["full_attention"] * 3)


def garbage(folder: pathlib.Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\xff" * 1000)


def test_a_model_that_does_not_fit_is_refused_before_its_weights_are_read(
    copy: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    garbage(copy)
    monkeypatch.setattr(machine, "memory_limit", lambda: 10**8)
    with pytest.raises(BadModel) as caught:
        TorchEngine(copy).load()
    assert caught.value.reason == "InsufficientMemory"


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
