"""The one line of a request for an answer: the same fields by whatever API it came."""

import json
import logging
from typing import Any

import pytest
from asgi_calls import call, serving

from chatmodel_runtime.engines.mock import Behaviour, MockEngine

FIELDS = {
    "trace_id",
    "route",
    "status",
    "seconds",
    "prompt_tokens",
    "completion_tokens",
    "finish_reason",
}
TRIAGE = {"patient_mrn": "MRN-001", "query": "What now?"}
CHAT: dict[str, Any] = {"model": "x", "messages": [{"role": "user", "content": "What now?"}]}
ROUTES = {"/triage": TRIAGE, "/v1/chat/completions": CHAT}
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in vars(record).items() if key not in STANDARD}
        for record in caplog.records
        if record.message == "request completed"
    ]


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "chatmodel_runtime")
    return caplog


@pytest.mark.parametrize(
    ("route", "change"),
    [
        pytest.param("/triage", {}, id="triage"),
        pytest.param("/v1/chat/completions", {}, id="a chat"),
        pytest.param("/v1/chat/completions", {"stream": True}, id="a streamed chat"),
    ],
)
async def test_an_answer_leaves_one_line_with_its_sizes(
    caplog: pytest.LogCaptureFixture, route: str, change: dict[str, Any]
) -> None:
    async with serving() as inside:
        body = json.dumps(ROUTES[route] | change).encode()
        reply = await call(inside.public, "POST", route, body)
    (line,) = lines(caplog)
    assert set(line) == FIELDS
    assert (line["route"], line["status"], reply.status) == (route, 200, 200)
    assert line["finish_reason"] == "stop"
    assert min(line["prompt_tokens"], line["completion_tokens"]) > 0
    if route == "/triage":
        answer = json.loads(reply.text)
        assert line["trace_id"] == answer["trace_id"]
        assert line["completion_tokens"] == answer["usage"]["completion_tokens"]


@pytest.mark.parametrize("route", ROUTES)
async def test_a_failure_leaves_the_same_line_without_sizes(
    caplog: pytest.LogCaptureFixture, route: str
) -> None:
    async with serving(MockEngine(Behaviour(fault="dies"))) as inside:
        reply = await call(inside.public, "POST", route, json.dumps(ROUTES[route]).encode())
    (line,) = lines(caplog)
    assert set(line) == FIELDS
    assert (line["status"], reply.status) == (500, 500)
    assert [line[n] for n in ("prompt_tokens", "completion_tokens", "finish_reason")] == [None] * 3


async def test_an_empty_answer_is_an_error_whose_prompt_was_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(MockEngine(Behaviour(fault="empty"))) as inside:
        reply = await call(inside.public, "POST", "/triage", json.dumps(TRIAGE).encode())
    (line,) = lines(caplog)
    assert (reply.status, line["status"], line["completion_tokens"]) == (500, 500, 0)
    assert line["prompt_tokens"] > 0
