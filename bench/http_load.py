"""HTTP clients that keep their connections and ask again as soon as they are answered.

Called by `runtime_http`. One event loop drives them all; it parses no more than it must, so that
the client stays cheaper than what it measures.
"""

import asyncio
import collections
import dataclasses
import re
import time
from typing import cast

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.I)
_CLOSE = re.compile(rb"\r\nconnection: close\r\n", re.I)
END_OF_HEAD = b"\r\n\r\n"


@dataclasses.dataclass
class Seen:
    """Answers by status, and the seconds each took."""

    statuses: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    seconds: list[float] = dataclasses.field(default_factory=list)


class _Connection(asyncio.Protocol):
    """Asks the same thing again and again; a connection that the server ends is opened anew."""

    def __init__(self, request: bytes, seen: Seen) -> None:
        self._request = request
        self._seen = seen
        self._buffer = b""
        self._asked = 0.0
        self._transport: asyncio.Transport | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        assert self._transport is not None
        self._asked = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head_ends = self._buffer.find(END_OF_HEAD)
        if head_ends < 0:
            return
        head = self._buffer[: head_ends + 2]
        length = _LENGTH.search(head)
        assert length is not None, "an answer without a length"
        if len(self._buffer) < head_ends + 4 + int(length[1]):
            return
        self._buffer = b""
        self._seen.statuses[int(head[9:12])] += 1
        self._seen.seconds.append(time.perf_counter() - self._asked)
        if _CLOSE.search(head):
            self.close()
        else:
            self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()


def build_request(path: str, body: bytes = b"", *, method: str = "GET", key: str = "") -> bytes:
    """Return a request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}"]
    lines += ["content-type: application/json"] if body else []
    lines += [f"x-api-key: {key}"] if key else []
    return "\r\n".join(lines).encode() + END_OF_HEAD + body


async def load(port: int, request: bytes, connections: int, seconds: float) -> Seen:
    """Ask over so many connections for so long; return what was seen."""
    seen = Seen()
    end = time.monotonic() + seconds
    await asyncio.gather(*(_keep_asking(port, request, seen, end) for _ in range(connections)))
    return seen


async def _keep_asking(port: int, request: bytes, seen: Seen, end: float) -> None:
    loop = asyncio.get_running_loop()
    while (left := end - time.monotonic()) > 0:
        _, connection = await loop.create_connection(
            lambda: _Connection(request, seen), "127.0.0.1", port
        )
        try:
            await asyncio.wait_for(asyncio.shield(connection.ended), left)
        except TimeoutError:
            connection.close()
            return


async def probe(port: int, path: str, every: float, seconds: float) -> Seen:
    """Ask now and then over a fresh connection, as the kubelet does."""
    seen = Seen()
    end = time.monotonic() + seconds
    request = build_request(path).replace(END_OF_HEAD, b"\r\nconnection: close" + END_OF_HEAD)
    while time.monotonic() < end:
        started = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        seen.statuses[int(answer[9:12])] += 1
        seen.seconds.append(time.perf_counter() - started)
        await asyncio.sleep(every)
    return seen
