"""What becomes of the chat log, and that no answer waits for it."""

import asyncio
import json
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chatmodel_runtime import chat_log

CANARY = "canary-4711"


class Api:
    """A patient API that takes chat logs; while the gate is shut it answers nobody."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.status = 201
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.asked = asyncio.Semaphore(0)
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        self.heads.append(head)
        self.bodies.append(json.loads(await reader.readexactly(length)))
        self.asked.release()
        await self.gate.wait()
        more = f"location: http://127.0.0.1:9/{CANARY}\r\nconnection: close\r\n"
        start = f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(CANARY)}\r\n"
        writer.write(f"{start}{more}\r\n{CANARY}".encode())
        writer.close()


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    made = Api()
    listener = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    async with listener:
        made.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield made
        made.gate.set()


def entry(number: int = 0) -> chat_log.Entry:
    return chat_log.Entry(
        trace_id=f"trace-{number}",
        conversation_id=chat_log.new_conversation_id(),
        patient_mrn=f"MRN-{CANARY}",
        query=f"query {CANARY}",
        response=f"response {CANARY}",
        llm_mode="mock",
        inference_time_ms=12.5,
        asked=0.0,
        answered=1.5,
    )


async def test_an_entry_has_the_shape_of_the_origins(api: Api) -> None:
    log, sent = chat_log.ChatLog(api.url), entry()
    log.offer(sent)
    await log.close()
    assert api.heads[0].startswith("post /chat-logs http/1.1")
    assert api.bodies == [
        {
            "trace_id": "trace-0",
            "conversation_id": sent.conversation_id,
            "patient_mrn": f"MRN-{CANARY}",
            "channel": "api",
            "messages": [
                {
                    "role": "user",
                    "content": f"query {CANARY}",
                    "timestamp": "1970-01-01T00:00:00Z",
                },
                {
                    "role": "assistant",
                    "content": f"response {CANARY}",
                    "timestamp": "1970-01-01T00:00:01.500000Z",
                    "model_name": "mock",
                    "latency_ms": 12.5,
                },
            ],
        }
    ]
    assert (log.stored, sum(log.dropped.values())) == (1, 0)
    assert uuid.UUID(sent.conversation_id).version == 4


@pytest.mark.parametrize("status", [400, 404, 422, 500, 302])
async def test_an_entry_that_is_refused_is_counted_and_not_tried_again(
    api: Api, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    api.status = status
    log = chat_log.ChatLog(api.url)
    with caplog.at_level(logging.DEBUG, "chatmodel_runtime"):
        for number in range(5):
            log.offer(entry(number))
        await log.close()
    assert (log.stored, log.dropped["failed"], len(api.bodies)) == (0, 5, 5)
    # One line for a row of failures; and nothing of what, and nothing of where.
    assert len(caplog.records) == 1
    (record,) = caplog.records
    assert vars(record)["reason"] == "failed"
    text = str(vars(record))
    assert CANARY not in text and "chat-logs" not in text and "127.0.0.1" not in text


async def test_an_api_that_is_away_costs_the_entries_only() -> None:
    log = chat_log.ChatLog("http://127.0.0.1:9")
    for number in range(3):
        log.offer(entry(number))
    await log.close()
    assert log.dropped == {"full": 0, "failed": 3, "shutdown": 0}


async def test_an_api_that_hangs_is_given_up_after_its_time(api: Api) -> None:
    api.gate.clear()
    log = chat_log.ChatLog(api.url, timeout_seconds=0.1)
    log.offer(entry())
    await log.close(5)
    assert log.dropped == {"full": 0, "failed": 1, "shutdown": 0}
    assert chat_log.TIMEOUT_SECONDS == 10


async def test_a_full_queue_drops_at_once_and_waits_for_nobody(api: Api) -> None:
    api.gate.clear()
    log = chat_log.ChatLog(api.url)
    for number in range(chat_log.WORKERS):
        log.offer(entry(number))
    for _ in range(chat_log.WORKERS):
        await api.asked.acquire()
    for number in range(chat_log.MAX_QUEUED + 10):
        log.offer(entry(number))  # no await: nothing could run between
    assert (log.dropped["full"], log._queue.qsize()) == (10, chat_log.MAX_QUEUED)
    api.gate.set()
    await log.close(20)
    assert log.stored == chat_log.WORKERS + chat_log.MAX_QUEUED


async def test_at_the_end_what_is_left_is_sent(api: Api) -> None:
    log = chat_log.ChatLog(api.url)
    for number in range(50):
        log.offer(entry(number))
    await log.close()
    assert {body["trace_id"] for body in api.bodies} == {f"trace-{n}" for n in range(50)}


async def test_at_the_end_an_api_that_hangs_is_not_waited_for(api: Api) -> None:
    api.gate.clear()
    log = chat_log.ChatLog(api.url)
    for number in range(9):
        log.offer(entry(number))
    await log.close(0.2)
    assert not api.gate.is_set()
    assert log.dropped == {"full": 0, "failed": 0, "shutdown": 9}


async def test_a_proxy_of_the_environment_is_not_asked(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    log = chat_log.ChatLog(api.url)
    log.offer(entry())
    await log.close()
    assert log.stored == 1
