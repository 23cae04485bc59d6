"""The client on loopback: a right to write that ends while a write waits for its connection."""

import asyncio
from collections.abc import Iterator

import pytest
from aiohttp import web

from chatmodel_operator import api_client, errors, receipts
from chatmodel_operator.api_client import ApiClient, Connection


async def write_once(answers: Iterator[bool]) -> tuple[list[str], Exception | None]:
    """Send one write; return what reached the server, and what was raised."""
    reached: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        reached.append(request.method)
        return web.json_response({})

    server = web.ServerRunner(web.Server(answer))
    await server.setup()
    await web.TCPSite(server, "127.0.0.1", 0).start()
    connection = Connection("http://{}:{}".format(*server.addresses[0]), {}, None)
    client = ApiClient(lambda: connection, may_write=lambda: next(answers))
    try:
        await client.request("PATCH", "/x", {"a": 1})
    except errors.ClusterError as error:
        return reached, error
    finally:
        await client.close()
        await server.cleanup()
    return reached, None


def test_a_write_is_sent_by_who_may_write() -> None:
    assert asyncio.run(write_once(iter([True, True]))) == (["PATCH"], None)


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([False], id="before"),
        pytest.param([True, False], id="while it waits for a connection"),
    ],
)
def test_a_write_is_not_sent_once_the_right_has_ended(answers: list[bool]) -> None:
    reached, error = asyncio.run(write_once(iter(answers)))
    assert reached == []
    assert isinstance(error, errors.Unavailable)
    assert error.reason == "NotLeading"


def test_an_intent_stays_fresh_as_long_as_its_own_write_may_take() -> None:
    assert api_client.TIMEOUT.total is not None
    assert receipts.INTENT_SECONDS >= api_client.TIMEOUT.total
