"""HTTP by the byte, for tests of what no ordinary client would send."""

import contextlib
import dataclasses
import json
import socket
import urllib.parse
from collections.abc import Iterable, Iterator
from typing import Any


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back; status 0 when the connection ended without an answer."""

    status: int
    headers: dict[str, str]
    body: bytes
    raw: bytes

    def problem(self) -> dict[str, Any]:
        """Return what `{detail: {error, trace_id}}` holds; fail when it is anything else."""
        whole = json.loads(self.body)
        assert set(whole) == {"detail"}, whole
        detail = whole["detail"]
        assert set(detail) == {"error", "trace_id"}, detail
        return dict(detail)


def head(method: str, path: str, **headers: str) -> bytes:
    """Return the head of a request; `_` in a header's name is a dash."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def chunk(data: bytes) -> bytes:
    """Return one piece of a body without a length."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@contextlib.contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """Yield a connection to the server at a URL."""
    where = urllib.parse.urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=20) as connection:
        yield connection


def exchange(url: str, pieces: Iterable[bytes]) -> Answer:
    """Send pieces one by one, stopping when the server hangs up, and return its first answer."""
    with connected(url) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                connection.sendall(piece)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> Answer:
    """Return the answer that a connection brings."""
    raw = b""
    with contextlib.suppress(ConnectionResetError):
        while not _is_whole(raw) and (more := connection.recv(65536)):
            raw += more
    top, _, body = raw.partition(b"\r\n\r\n")
    lines = top.decode("latin-1").split("\r\n")
    if not lines[0].startswith("HTTP/1.1 "):
        return Answer(0, {}, b"", raw)
    pairs = (line.partition(":") for line in lines[1:])
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Answer(int(lines[0].split(" ")[1]), headers, body, raw)


def _is_whole(raw: bytes) -> bool:
    top, found, body = raw.partition(b"\r\n\r\n")
    for line in top.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return bool(found) and len(body) >= int(line.split(b":")[1])
    return bool(found) and b" 204 " in top
