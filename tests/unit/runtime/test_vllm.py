"""The vllm engine against a stand-in server: asked, left, stuck, dead."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from standin_vllm import Standin, wait_until

from chatmodel_runtime import generating, scheduling
from chatmodel_runtime.engines import BadOutput, EngineDead, Request, Sampling
from chatmodel_runtime.engines.vllm import VllmEngine

PROMPT = [71, 84, 301]
SAID = "(EngineCore pid=7) {} 01-31 12:00:00 [v1/engine/core.py:571] {}"
Start = Callable[..., VllmEngine]


async def collect(vllm: VllmEngine, **options: Any) -> tuple[list[list[int]], str | None]:
    request = Request(PROMPT, options.pop("max_tokens", 32), **options)
    async with contextlib.aclosing(vllm.submit(request)) as found:
        steps = [step async for step in found]
    return [step.tokens for step in steps], steps[-1].finish_reason


async def test_tokens_come_step_by_step_without_the_end_token(
    vllm: VllmEngine, vllm_server: Standin
) -> None:
    vllm_server.order(tokens=[11, 12, 13], a_step=2, end_token=vllm.tokenizer.end_token)
    assert await collect(vllm) == ([[11, 12], [13]], "stop")
    vllm_server.order(tokens=[11, 12], finish="length")
    assert await collect(vllm) == ([[11], [12]], "length")


async def test_a_request_is_sent_with_all_that_was_asked_for(
    vllm: VllmEngine, vllm_server: Standin
) -> None:
    sampling = Sampling(temperature=0.7, top_p=0.9, top_k=40)
    await collect(vllm, sampling=sampling, max_tokens=7, shared=2)
    await collect(vllm)
    chosen, greedy = vllm_server.read("bodies")
    assert chosen["prompt"] == PROMPT
    assert (chosen["max_tokens"], chosen["stream"], chosen["return_token_ids"]) == (7, True, True)
    assert (chosen["temperature"], chosen["top_p"], chosen["top_k"]) == (0.7, 0.9, 40)
    assert (greedy["temperature"], greedy["top_p"], greedy["top_k"]) == (0.0, 1.0, 0)
    ends = [vllm.tokenizer.encode(word) for word in ("<|im_end|>", "<|endoftext|>")]
    assert [[token] for token in sorted(chosen["stop_token_ids"])] == sorted(ends)


async def test_a_proxy_of_the_environment_sees_nothing(
    make_vllm: Start, vllm_server: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    vllm = make_vllm()
    await asyncio.wait_for(asyncio.to_thread(vllm.load), 60)
    assert await collect(vllm) == ([[11], [12], [13]], "stop")


async def test_no_two_requests_share_a_prefix(vllm: VllmEngine, vllm_server: Standin) -> None:
    await asyncio.gather(*(collect(vllm, shared=len(PROMPT)) for _ in range(4)))
    salts = {body["cache_salt"] for body in vllm_server.read("bodies")}
    assert len(salts) == 4 and min(map(len, salts)) >= 43
    assert "--no-enable-prefix-caching" in vllm_server.started()["argv"]


async def test_a_generation_that_is_left_is_cancelled_there(
    vllm: VllmEngine, vllm_server: Standin
) -> None:
    vllm_server.order(tokens=[11] * 1000, step_seconds=0.05)
    async with contextlib.aclosing(vllm.submit(Request(PROMPT, 1000))) as steps:
        await anext(steps)
    wait_until(lambda: vllm_server.read("ended") == ["cancelled"], "a cancellation")
    vllm_server.order()
    assert await collect(vllm) == ([[11], [12], [13]], "stop")


async def test_an_output_that_is_no_number_is_told(vllm: VllmEngine, vllm_server: Standin) -> None:
    vllm_server.order(is_number=False)
    with pytest.raises(BadOutput):
        await collect(vllm)
    assert vllm.is_alive()


@pytest.mark.parametrize(
    "orders",
    [{"status": 500}, {"finish": "abort"}, {"finish": None}],
    ids=["an error", "a request that is given up", "a stream that ends early"],
)
async def test_an_answer_that_is_none_is_an_error(
    vllm: VllmEngine, vllm_server: Standin, orders: dict[str, Any]
) -> None:
    vllm_server.order(**orders)
    with pytest.raises(EngineDead):
        await collect(vllm)


async def test_a_server_that_dies_under_a_request_is_dead(
    vllm: VllmEngine, vllm_server: Standin, told: list[str]
) -> None:
    vllm_server.order(tokens=[11] * 10, dies_after=3)
    with pytest.raises(EngineDead):
        await collect(vllm)
    wait_until(lambda: not vllm.is_alive(), "an engine that is dead")
    wait_until(lambda: any("has ended" in line for line in told), "a line about it")
    with pytest.raises(EngineDead):
        await collect(vllm)


def test_a_server_whose_engine_has_died_is_dead(vllm: VllmEngine, vllm_server: Standin) -> None:
    assert vllm.is_alive()
    vllm_server.order(health=503)
    wait_until(lambda: not vllm.is_alive(), "an engine that is dead")


def test_a_server_that_does_not_answer_counts_as_stuck_until_it_does(
    make_vllm: Start, vllm_server: Standin
) -> None:
    engine = make_vllm(stuck=0.5)
    engine.load()
    wait_until(engine.is_alive, "health")
    vllm_server.order(health=None)
    wait_until(lambda: not engine.is_alive(), "an engine that is stuck")
    vllm_server.order()
    wait_until(engine.is_alive, "health again")


async def test_nothing_of_a_prompt_gets_into_our_log(
    vllm: VllmEngine, vllm_server: Standin, told: list[str]
) -> None:
    planted = "71, 84, 301"
    text = f"OutOfMemoryError: PROMPT {'long ' * 2000} {SAID.format('ERROR', 'PROMPT')}"
    vllm_server.order(
        talks=[
            "PROMPT",
            SAID.format("WARNING", "PROMPT"),
            SAID.format("ERROR", text),
            "WARNING PROMPT",
            "MRNError: PROMPT",
            SAID.format("ERROR", "MRNError: PROMPT"),
            SAID.format("CRITICAL", "RuntimeError: PROMPT"),
        ],
        dies_after=1,
    )
    with pytest.raises(EngineDead) as caught:
        await collect(vllm)
    wait_until(lambda: any("has ended" in line for line in told), "the end")
    vllm.close()
    said = "".join(told)
    assert planted not in said and "MRN" not in said and planted not in str(caught.value)
    found = [(line["level"], line["message"]) for line in map(json.loads, told)]
    assert found.index(("error", "OutOfMemoryError")) < found.index(("critical", "RuntimeError"))


async def test_it_is_ready_thinks_and_answers_through_the_scheduler(
    make_vllm: Start, vllm_server: Standin
) -> None:
    engine = make_vllm()
    scheduler = scheduling.Scheduler(engine, scheduling.Room(4, 4), scheduling.AHEAD)
    budget = generating.Budget(64, 64, Sampling())

    async def ask() -> generating.Answer:
        end = engine.tokenizer.end_token
        vllm_server.order(tokens=engine.tokenizer.encode("so it is</think>Rest."), end_token=end)
        return await scheduler.answer([{"role": "user", "content": "ill"}], budget, ahead=True)

    async def warm_up() -> None:
        assert (await ask()).text == "Rest."

    await scheduler.start(warm_up)
    made = await ask()
    assert (made.thinking, made.text, made.finish_reason) == ("so it is", "Rest.", "stop")
    assert scheduler.state == "ready"
    os.kill(vllm_server.started()["pid"], signal.SIGKILL)
    wait_until(scheduler.is_broken, "a scheduler that sees it")
    assert scheduler.state == "failed"
