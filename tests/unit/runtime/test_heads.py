"""What a request's head may be, where only a server in this process can show it."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from chatmodel_runtime import heads, server

PIECE = b"X-Some: " + b"x" * 1000 + b"\r\n"


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    message = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": message["body"] or b"ok"})


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yield a connection to a server with our protocol."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    running = uvicorn.Server(server._configure(plain, "127.0.0.1", port))
    serving = asyncio.create_task(running._serve([listener]))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        running.should_exit = True
        await serving


async def status_of(reader: asyncio.StreamReader) -> int:
    try:
        line = await asyncio.wait_for(reader.readline(), 10)
    except ConnectionError:
        return 0
    return int(line.split(b" ")[1]) if line else 0


@pytest.mark.parametrize(
    "piece",
    [pytest.param(PIECE, id="new fields"), pytest.param(b"x" * 1000, id="one long field")],
)
async def test_a_head_that_never_ends_is_cut_off_at_16_kib(piece: bytes) -> None:
    async with client() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nX-First: ")
        answer, sent = asyncio.create_task(status_of(reader)), 0
        while not answer.done() and sent < 1_000_000:
            with contextlib.suppress(ConnectionError):
                writer.write(piece)
                await writer.drain()
            sent += len(piece)
            await asyncio.sleep(0.01)
        assert sent < 100_000
        assert await answer in (431, 0)  # 0: our next piece met a closed door


async def test_a_head_that_is_not_finished_in_time_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heads, "HEAD_SECONDS", 0.1)
    async with client() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nX-Some: canary")
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert b"canary" not in answer
        detail = json.loads(answer.partition(b"\r\n\r\n")[2])["detail"]
        assert set(detail) == {"error", "trace_id"}


async def test_a_client_that_says_nothing_is_not_kept_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heads, "FIRST_BYTE_SECONDS", 0.1)
    async with client() as (reader, _):
        assert await asyncio.wait_for(reader.read(), 10) == b""


async def test_clocks_stop_when_a_head_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(heads, "FIRST_BYTE_SECONDS", 0.2)
    async with client() as (reader, writer):
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nX-Some: 1\r\n")
            await asyncio.sleep(0.02)
            writer.write(b"\r\n")
            assert await status_of(reader) == 200
            while (await reader.readline()) != b"0\r\n":
                pass
            await reader.readline()
            await asyncio.sleep(0.3)


async def test_a_large_body_beside_its_head_is_no_large_head() -> None:
    body = b"x" * 50_000
    top = b"POST / HTTP/1.1\r\nContent-Length: 50000\r\n\r\n"
    async with client() as (reader, writer):
        for _ in range(2):  # the second head comes right behind the first body
            writer.write(top + body)
        for _ in range(2):
            line = await asyncio.wait_for(reader.readline(), 10)
            while not line.startswith(b"HTTP/1.1 "):
                line = await asyncio.wait_for(reader.readline(), 10)
            assert line.split(b" ")[1] == b"200"


@pytest.mark.parametrize("text", [b"nonsense\r\n\r\n", b"GET canary HTTP/9.9\r\n\r\n", b"\x16\x03"])
async def test_what_is_no_http_is_refused_in_our_words(text: bytes) -> None:
    async with client() as (reader, writer):
        writer.write(text)
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"canary" not in answer
        assert set(json.loads(answer.partition(b"\r\n\r\n")[2])["detail"]) == {"error", "trace_id"}


async def test_an_upgrade_is_answered_as_any_request() -> None:
    async with client() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert await status_of(reader) == 200


async def ask(port: int) -> int:
    """Return the status of a request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    status = await status_of(reader)
    writer.close()
    return status


async def test_one_connection_too_many_is_refused_and_the_others_are_served() -> None:
    async with client() as (reader, writer):
        port = writer.get_extra_info("peername")[1]
        others = [
            await asyncio.open_connection("127.0.0.1", port)
            for _ in range(heads.MAX_CONNECTIONS - 1)
        ]
        late, last = await asyncio.open_connection("127.0.0.1", port)
        assert await status_of(late) == 503
        await asyncio.wait_for(late.read(), 10)  # to its end: it is closed
        last.close()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await status_of(reader) == 200
        others[0][1].close()
        async with asyncio.timeout(10):
            while await ask(port) != 200:
                await asyncio.sleep(0.01)
        for _, one in others[1:]:
            one.close()
