"""When a connection is told to end."""

import time
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from chatmodel_runtime import draining, server


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def receive() -> Message:
    return {"type": "http.request"}


async def closes(app: server.EndConnections, port: int) -> bool:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "client": ("10.0.0.1", port)}
    await app(scope, receive, send)
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
    assert (b"x", b"y") in sent[0]["headers"]
    return (b"connection", b"close") in sent[0]["headers"]


def ended(max_age: float) -> server.EndConnections:
    return server.EndConnections(plain, max_age, draining.Drain(0))


async def test_a_young_connection_stays() -> None:
    app = ended(60)
    assert [await closes(app, 1) for _ in range(3)] == [False] * 3


async def test_an_old_connection_ends_with_an_answer_and_only_that_one() -> None:
    app = ended(0.05)
    assert not await closes(app, 1)
    end = time.monotonic() + 0.06  # 20 % over the age
    while time.monotonic() < end:
        assert not await closes(app, int(time.monotonic_ns()))
    assert [await closes(app, 1), await closes(app, 2)] == [True, False]


async def test_a_port_that_is_used_again_starts_young() -> None:
    app = ended(0.01)
    assert not await closes(app, 1)
    end = time.monotonic() + 5
    while not await closes(app, 1):
        assert time.monotonic() < end
    assert not await closes(app, 1)


async def test_while_draining_every_answer_ends_its_connection() -> None:
    drain = draining.Drain(0)
    app = server.EndConnections(plain, 60, drain)
    assert not await closes(app, 1)
    await drain.run()
    assert [await closes(app, port) for port in (1, 2)] == [True, True]


async def test_ages_are_spread_so_that_clients_do_not_come_back_together() -> None:
    app = ended(100)
    now = time.monotonic()
    for port in range(500):
        await closes(app, port)
    ages = [end - now for end, _ in app._connections.values()]
    assert 79 < min(ages) < 90 and 110 < max(ages) < 121


async def test_connections_that_are_long_gone_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "FORGET_SECONDS", 0.0)
    app = ended(60)
    for port in range(50):
        await closes(app, port)
    assert len(app._connections) < 5


async def test_what_is_no_request_passes_untouched() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def send(message: Message) -> None:
        raise AssertionError

    await server.EndConnections(app, 1, draining.Drain(0))({"type": "lifespan"}, receive, send)
    assert seen == ["lifespan"]
