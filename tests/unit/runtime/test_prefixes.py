"""What of a prompt is kept for other requests: by whom it is found, and how it is named."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator

import models
import pytest
from asgi_calls import Reply, call, serving
from fastapi import FastAPI
from scripted_engine import ScriptedEngine

from chatmodel_runtime import prompts
from chatmodel_runtime.engines import Request
from chatmodel_runtime.engines.torch import PAGE_TOKENS, TorchEngine

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TWO_BLOCKS = 2 * PAGE_TOKENS
ASK = json.dumps({"patient_mrn": "MRN-001", "query": "What now?"}).encode()


@dataclasses.dataclass
class Watched:
    """An engine, and how many tokens each request found computed."""

    engine: TorchEngine
    found: list[int]

    async def ask(self, asked: Request) -> int:
        """Return how many tokens of the prompt were found."""
        async with contextlib.aclosing(self.engine.submit(asked)) as steps:
            self.made = [token async for step in steps for token in step.tokens]
        return self.found[-1]

    def prompt(self, word: str) -> list[int]:
        return self.engine.tokenizer.encode(f"{word} " * 200)[: 4 * PAGE_TOKENS]


@pytest.fixture(scope="module")
def engine() -> Iterator[TorchEngine]:
    loaded = TorchEngine(models.made("qwen", models.make_qwen))
    loaded.load()
    yield loaded
    loaded.close()


@pytest.fixture
def watched(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> Watched:
    cache = engine._manager.batch_processor.cache
    search, watched = cache.search_prefix_match, Watched(engine, [])

    def count(name: str, prompt: list[int]) -> int:
        watched.found.append(search(name, prompt))
        return watched.found[-1]

    monkeypatch.setattr(cache, "search_prefix_match", count)
    return watched


async def test_the_same_owner_finds_its_system_message_and_nobody_else(watched: Watched) -> None:
    asked = Request(watched.prompt("sore"), 4, shared=TWO_BLOCKS + 1, owner="a")
    assert await watched.ask(asked) == 0
    alone = watched.made
    assert await watched.ask(asked) == TWO_BLOCKS
    assert watched.made == alone
    for owner in ("b", ""):
        assert await watched.ask(dataclasses.replace(asked, owner=owner)) == 0
        assert watched.made == alone


async def test_what_follows_the_system_message_is_found_by_nobody(watched: Watched) -> None:
    prompt = watched.prompt("throat")
    assert await watched.ask(Request(prompt, 2, shared=PAGE_TOKENS, owner="a")) == 0
    longer = Request(prompt, 2, shared=len(prompt), owner="a")
    assert await watched.ask(longer) == PAGE_TOKENS
    assert await watched.ask(Request(prompt, 2, owner="a")) == 0, "no system message, nothing"


async def test_texts_that_the_librarys_own_hash_takes_for_one_stay_two(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.generation.continuous_batching.cache_allocators import cache_allocator

    monkeypatch.setattr(cache_allocator, "compute_block_hash", lambda parent, tokens: 7)
    assert await watched.ask(Request(watched.prompt("fever"), 2, shared=TWO_BLOCKS)) == 0
    assert await watched.ask(Request(watched.prompt("cough"), 2, shared=TWO_BLOCKS)) == 0


async def test_who_has_ended_is_not_remembered(watched: Watched) -> None:
    await watched.ask(Request(watched.prompt("ankle"), 2, shared=TWO_BLOCKS))
    assert watched.engine._prefixes._names == {}


def test_a_block_is_named_by_owner_and_all_that_comes_before_it() -> None:
    from chatmodel_runtime.engines import torch_sampling

    def names(tokens: list[int], owner: str = "a", shared: int = 8) -> list[bytes]:
        return torch_sampling.name_blocks(Request(tokens, 1, shared=shared, owner=owner), 4)

    tokens = [1, 2, 3, 4, 5, 6, 7, 8]
    assert names(tokens) == names([*tokens, 9])
    assert names(tokens, shared=7) == names(tokens)[:1]
    assert all(len(name) == 32 for name in names(tokens))
    others = [*names(tokens, "b"), *names([0, *tokens[1:]]), names([5, 6, 7, 8, *tokens])[0]]
    assert not set(names(tokens)) & set(others)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    for key in ("one", "two"):
        (tmp_path / key).write_text(key)
    return tmp_path


async def complete(app: FastAPI, key: str, system: str, *, stream: bool = False) -> Reply:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "q"}]
    body = json.dumps({"model": "m", "messages": messages, "stream": stream}).encode()
    headers = {"x-api-key": key}
    reply = await call(app, "POST", "/v1/chat/completions", body, headers=headers)
    assert reply.status == 200
    return reply


async def test_a_clients_own_system_message_is_its_keys_and_ours_is_everybodys(
    folder: pathlib.Path,
) -> None:
    engine = ScriptedEngine()
    async with serving(engine, auth={"mode": "ApiKey", "keysDir": str(folder)}) as inside:
        await complete(inside.public, "one", "Be brief.")
        await complete(inside.public, "one", "Be brief.", stream=True)
        await complete(inside.public, "two", "Be brief.")
        await complete(inside.public, "two", prompts.SYSTEM)
        for key in ("one", "two"):
            headers = {"x-api-key": key}
            reply = await call(inside.public, "POST", "/triage", ASK, headers=headers)
            assert reply.status == 200
    one, again, two, *ours = [asked.owner for asked in engine.asked]
    assert one == again != two
    assert ours == ["", "", ""]
    assert "" not in (one, two) and not {"one", "two"} & {one, two}
