"""What `/metrics` says of requests and generations, and that nothing of a request is in it."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgi_calls import Inside, call, serving
from prometheus_client.parser import text_string_to_metric_families
from scripted_engine import ScriptedEngine

from chatmodel_runtime import families, measuring, metrics, waiting
from chatmodel_runtime.engines import Pulse
from chatmodel_runtime.engines.mock import Behaviour, MockEngine

CANARIES = ("MRN-CANARY-4711", "canary-query-0815", "canary-path-2342")
HANG_SECONDS = 30
MODEL = (("model_name", "mock"),)
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(text: str) -> Series:
    """Return the values by name and labels; the process's own numbers are left out."""
    samples = (s for f in text_string_to_metric_families(text) for s in f.samples)
    named = ((s.name, tuple(sorted(s.labels.items())), s.value) for s in samples)
    return {(n, labels): v for n, labels, v in named if not n.startswith("process_")}


def value(series: Series, name: str, **labels: str) -> float:
    return series[name, tuple(sorted(labels.items()))]


def leaks(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary.lower() in text.lower()]


def question(mrn: Any = "MRN-001", query: Any = "What now?") -> bytes:
    return json.dumps({"patient_mrn": mrn, "query": query}).encode()


def chat(**change: Any) -> bytes:
    messages = [{"role": "user", "content": "What now?"}]
    return json.dumps({"model": "x", "messages": messages} | change).encode()


@pytest.fixture
async def inside() -> AsyncIterator[Inside]:
    async with serving() as made:
        yield made


async def test_every_series_is_there_before_the_first_request(inside: Inside) -> None:
    series = read(await inside.metrics())
    for family in families.FAMILIES:
        found = [n for n, _ in series if n.removesuffix("_bucket") in _names(family)]
        assert found, family.name
    for route in families.ROUTES:
        for status in families.STATUSES:
            assert value(series, "chatmodel_requests_total", route=route, status=status) == 0


def _names(family: families.Family) -> set[str]:
    return {family.exposed, f"{family.exposed}_count"}


async def test_the_routes_are_those_of_the_application(inside: Inside) -> None:
    """A path with a part that varies would need its template here."""
    paths = {route.path for route in _flat(inside.public.routes)}
    assert paths == set(families.ROUTES) - {families.OTHER}


def _flat(routes: Any) -> list[Any]:
    found = []
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            found += inner.routes
        else:
            found.append(route)
    return found


async def test_an_answer_is_counted_with_its_tokens_and_times(inside: Inside) -> None:
    reply = await call(inside.public, "POST", "/triage", question())
    usage = json.loads(reply.text)["usage"]
    series = read(await inside.metrics())
    assert value(series, "chatmodel_requests_total", route="/triage", status="2xx") == 1
    assert value(series, "chatmodel_request_duration_seconds_count", route="/triage") == 1
    assert value(series, "chatmodel_generations_total", outcome="stop") == 1
    assert value(series, "chatmodel_prompt_tokens_total") == usage["prompt_tokens"]
    assert value(series, "chatmodel_generation_tokens_total") == usage["completion_tokens"]
    for name in ("generation", "queue", "time_to_first_token"):
        assert value(series, f"chatmodel_{name}_seconds_count") == 1
    assert value(series, "chatmodel_inter_token_latency_seconds_count") == 0, "it was one step"


async def test_each_step_after_the_first_is_a_latency_between_tokens() -> None:
    async with serving(ScriptedEngine("a b c d")) as inside:
        assert (await call(inside.public, "POST", "/triage", question())).status == 200
        series = read(await inside.metrics())
    assert value(series, "chatmodel_generation_tokens_total") == 4
    assert value(series, "chatmodel_inter_token_latency_seconds_count") == 3
    assert value(series, "chatmodel_time_per_output_token_seconds_count") == 1
    between = value(series, "chatmodel_inter_token_latency_seconds_sum")
    assert value(series, "chatmodel_time_per_output_token_seconds_sum") == pytest.approx(
        between / 3
    )


async def test_dashboards_for_vllm_find_the_same_numbers_under_its_names(inside: Inside) -> None:
    await call(inside.public, "POST", "/triage", question())
    await call(inside.public, "POST", "/v1/chat/completions", chat(max_tokens=2))
    series = read(await inside.metrics())
    for family in families.FAMILIES:
        if not family.alias or family.name == families.GENERATIONS.name:
            continue
        for (name, labels), number in list(series.items()):
            if name.removeprefix(family.name) in ("", "_total", "_bucket", "_sum", "_count"):
                theirs = family.alias + name.removeprefix(family.name)
                assert series[theirs, tuple(sorted((*labels, *MODEL)))] == number
    for reason, number in (("stop", 1), ("length", 1), ("abort", 0), ("error", 0)):
        found = value(
            series, "vllm:request_success_total", model_name="mock", finished_reason=reason
        )
        assert found == number
    assert value(series, "vllm:time_to_first_token_seconds_count", model_name="mock") == 2


async def test_who_serves_is_told_once(inside: Inside) -> None:
    series = read(await inside.metrics())
    who = {"mode": "mock", "engine": "Mock", "model_id": "mock", "revision": "triage-6f3a2c"}
    assert value(series, "chatmodel_runtime_info", **who) == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "reason"),
    [
        pytest.param("POST", "/triage", b"{}", "body_invalid", id="a body that does not fit"),
        pytest.param(
            "POST", "/v1/chat/completions", chat(n=2), "body_invalid", id="a chat that does not"
        ),
        pytest.param(
            "POST",
            "/v1/chat/completions",
            chat(messages=[{"role": "user", "content": "x " * 90_000}]),
            "prompt_too_long",
            id="a prompt that is too long",
        ),
    ],
)
async def test_a_refusal_is_counted_by_its_reason(
    inside: Inside, method: str, path: str, body: bytes, reason: str
) -> None:
    assert (await call(inside.public, method, path, body)).status in (400, 422)
    series = read(await inside.metrics())
    refused = {labels[0][1]: v for (n, labels), v in series.items() if "refused" in n}
    assert {name for name, number in refused.items() if number} == {reason}


async def test_a_missing_key_is_counted(tmp_path: Any) -> None:
    (tmp_path / "key").write_text("right")
    async with serving(auth={"mode": "ApiKey", "keysDir": str(tmp_path)}) as inside:
        assert (await call(inside.public, "POST", "/triage", question())).status == 401
        series = read(await inside.metrics())
    assert value(series, "chatmodel_requests_refused_total", reason="no_key") == 1
    assert value(series, "chatmodel_requests_total", route="/triage", status="4xx") == 1


async def test_queue_and_engine_are_read_at_the_moment_of_the_scrape() -> None:
    engine = ScriptedEngine()
    engine.gate.clear()
    async with serving(engine, room=(1, 1)) as inside:
        asked = [asyncio.create_task(call(inside.public, "POST", "/triage", question()))]
        await asyncio.wait_for(engine.running.acquire(), HANG_SECONDS)
        asked.append(asyncio.create_task(call(inside.public, "POST", "/triage", question())))
        while inside.scheduler.queued == 0:
            await asyncio.sleep(0)
        assert (await call(inside.public, "POST", "/triage", question())).status == 429
        series = read(await inside.metrics())
        assert value(series, "chatmodel_requests_running") == 1
        assert value(series, "chatmodel_requests_waiting") == 1
        assert value(series, "vllm:num_requests_waiting", model_name="mock") == 1
        assert value(series, "chatmodel_requests_refused_total", reason="queue_full") == 1
        assert value(series, "chatmodel_engine_current_step_seconds") > 0
        engine.gate.set()
        assert [reply.status for reply in await asyncio.gather(*asked)] == [200, 200]
        engine.alive = False
        series = read(await inside.metrics())
    assert value(series, "chatmodel_engine_state", state="failed") == 1
    assert value(series, "chatmodel_engine_state", state="ready") == 0
    assert value(series, "chatmodel_engine_step_seconds_count") == 2


@pytest.mark.parametrize(
    ("fault", "outcome"), [("dies", "failed"), ("no number", "failed"), ("hangs", "deadline")]
)
async def test_an_answer_that_fails_is_counted_by_how(fault: Any, outcome: str) -> None:
    engine = MockEngine(Behaviour(fault=fault))
    limits = {"firstTokenDeadlineSeconds": 0.05}
    status = 504 if outcome == "deadline" else 500
    async with serving(engine, limits=limits) as inside:
        assert (await call(inside.public, "POST", "/triage", question())).status == status
        series = read(await inside.metrics())
    assert value(series, "chatmodel_generations_total", outcome=outcome) == 1
    assert value(series, "chatmodel_generation_seconds_count") == 0, "it did not finish"


async def test_a_client_that_leaves_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "ASK_SECONDS", 0.01)
    engine = ScriptedEngine()
    engine.gate.clear()
    async with serving(engine) as inside:
        reply = await call(inside.public, "POST", "/triage", question(), stays=False)
        series = read(await inside.metrics())
    assert (reply.status, engine.cancelled) == (499, 1)
    assert value(series, "chatmodel_generations_total", outcome="cancelled") == 1
    assert value(series, "chatmodel_requests_total", route="/triage", status="4xx") == 1


async def test_a_step_is_counted_with_its_time() -> None:
    pulse = Pulse()
    pulse.begin()
    pulse.end()
    pulse.end()
    assert (pulse.steps, pulse.spent) == (1, pulse.slowest)


def _random_request(chance: random.Random) -> tuple[str, str, bytes, str]:
    mrn, query, path = CANARIES
    method = chance.choice(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", mrn])
    noise = "".join(chance.choices("abc/.%?-_{}é\x00", k=chance.randrange(20)))
    somewhere = chance.choice([f"/{path}/{noise}", f"/triage/{mrn}", noise, f"/v1/{noise}"])
    where = chance.choice([*families.ROUTES, somewhere, somewhere])
    bodies = [
        question(mrn, query + noise),
        question("MRN-001", query + noise),
        question(noise, query),
        question(query, [noise]),
        chat(model=query + noise, user=mrn, messages=[{"role": "user", "content": query}]),
        chat(**{query + noise: mrn}),
        json.dumps({"model": mrn, noise: query}).encode(),
        chance.randbytes(30) + query.encode(),
        b"",
    ]
    return method, where, chance.choice(bodies), f"{query}={mrn}&{noise.encode().hex()}"


async def test_ten_thousand_random_requests_make_no_series_and_leave_no_trace(
    inside: Inside,
) -> None:
    chance = random.Random(4711)
    before = read(await inside.metrics())
    statuses: set[int] = set()
    for _ in range(10_000):
        method, path, body, query = _random_request(chance)
        reply = await call(inside.public, method, path, body, query=query)
        statuses.add(reply.status)
    text = await inside.metrics()
    after = read(text)
    assert {200, 404, 405, 422} <= statuses
    assert set(after) == set(before)
    counted = sum(v for (name, _), v in after.items() if name == "chatmodel_requests_total")
    assert counted == 10_000
    assert leaks(text) == []


def test_a_planted_leak_is_found() -> None:
    planted = f'chatmodel_requests_total{{route="/{CANARIES[2].upper()}"}} 1.0'
    assert leaks(planted) == [CANARIES[2]]


async def test_a_request_without_an_answer_counts_as_an_error() -> None:
    async def break_off(*_: Any) -> None:
        raise ConnectionError

    numbers = metrics.Metrics()
    with pytest.raises(ConnectionError):
        await call(measuring.CountRequests(break_off, numbers), "GET", "/health")
    series = read(numbers.expose().decode())
    assert value(series, "chatmodel_requests_total", route="/health", status="5xx") == 1
