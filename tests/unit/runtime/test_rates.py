"""How often one key may ask, and that this is nobody else's matter."""

import json
import pathlib

import pytest
from asgi_calls import Reply, call, serving
from fastapi import FastAPI

from chatmodel_runtime import gates, rates

QUESTION = json.dumps({"patient_mrn": "MRN-001", "query": "What now?"}).encode()


def refusal(limit: rates.Rates, owner: str, now: float) -> int:
    """Return in how many seconds to ask again; 0 when the request is allowed."""
    try:
        limit.take(owner, now)
    except rates.TooOften as error:
        return error.retry_after
    return 0


def test_a_minutes_requests_may_come_at_once_and_no_more() -> None:
    limit = rates.Rates(3)
    assert [refusal(limit, "a", 100.0) for _ in range(4)] == [0, 0, 0, 20]


def test_when_it_is_said_to_ask_again_it_is_allowed_and_not_before() -> None:
    limit = rates.Rates(7)
    for _ in range(7):
        limit.take("a", 0.0)
    wait = refusal(limit, "a", 0.5)
    assert wait > 1
    assert refusal(limit, "a", 0.5 + wait - 1) > 0
    assert refusal(limit, "a", 0.5 + wait) == 0
    assert refusal(limit, "a", 0.5 + wait) > 0


def test_whoever_waits_for_long_has_a_minutes_requests_and_no_more() -> None:
    limit = rates.Rates(2)
    limit.take("a", 0.0)
    assert [refusal(limit, "a", 9999.0) for _ in range(3)] == [0, 0, 30]


def test_one_owner_takes_nothing_from_another() -> None:
    limit = rates.Rates(1)
    limit.take("a", 0.0)
    assert (refusal(limit, "a", 0.0), refusal(limit, "b", 0.0)) == (60, 0)


def test_owners_that_are_gone_are_forgotten_and_those_that_have_asked_are_not() -> None:
    limit = rates.Rates(1)
    for number in range(rates.MOST_OWNERS):
        limit.take(f"old {number}", 0.0)
    limit.take("just now", 100.0)
    assert len(limit._left) == 1
    assert refusal(limit, "just now", 100.0) == 60


async def ask(app: FastAPI, key: str, route: str = "/triage", body: bytes = QUESTION) -> Reply:
    return await call(app, "POST", route, body, headers={"x-api-key": key})


@pytest.mark.parametrize("route", gates.REFUSALS)
async def test_a_key_that_asks_too_often_is_refused_before_its_body_is_read(
    route: str, tmp_path: pathlib.Path
) -> None:
    for key in ("one", "two"):
        (tmp_path / key).write_text(key)
    auth = {"mode": "ApiKey", "keysDir": str(tmp_path)}
    limits = {"requestsPerMinutePerKey": 2}
    async with serving(auth=auth, limits=limits) as inside:
        for _ in range(2):
            assert (await ask(inside.public, "one")).status == 200
        refused = await ask(inside.public, "one", route, b"this is no JSON")
        assert refused.status == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert json.loads(refused.text).keys() == (
            {"detail"} if route == "/triage" else {"error", "trace_id"}
        )
        assert (await ask(inside.public, "two")).status == 200
        assert (await ask(inside.public, "three")).status == 401
        reply = await call(inside.public, "GET", "/v1/models", headers={"x-api-key": "one"})
        assert reply.status == 200, "what costs nothing is not counted"
        metrics = await inside.metrics()
    assert 'chatmodel_requests_refused_total{reason="too_often"} 1.0' in metrics.splitlines()


async def test_nobody_is_counted_unless_it_is_wished_for() -> None:
    async with serving() as inside:
        statuses = {(await ask(inside.public, "any")).status for _ in range(50)}
    assert statuses == {200}
