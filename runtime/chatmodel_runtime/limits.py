"""What a request's body may be, checked before anything reads it: type, size, time, depth.

Plain ASGI, put around the routes by `app`, inside the check of the key. A body is counted while it
comes in, with or without a length. Never parses, logs or repeats a body.
"""

import asyncio
import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatmodel_runtime import refusals

SMALL_BODY = 64 * 1024
LARGE_BODY = 1024 * 1024  # under LARGE_PREFIX: whole conversations
LARGE_PREFIX = "/v1/"
MAX_DEPTH = 32
# So much is read and thrown away before a 413, for clients that read only once they have sent.
DISCARDED = 8 * 1024 * 1024

# The closing quote may be missing: each letter is looked at once, whatever the body is.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.S)
_KINDS = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class Refused(Exception):
    """The body is not one we take."""

    def __init__(self, status: int, error: str, *, is_last: bool = False) -> None:
        super().__init__(status)
        self.status = status
        self.error = error
        self.headers = refusals.LAST if is_last else None


class ClientGone(Exception):
    """The client left before its body was whole."""


class LimitBody:
    """Read the body of a request within its limits, and hand it on whole."""

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 400, 408, 413 or 415."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
            await self._app(scope, receive, send)
            return
        try:
            body = await self._take(scope, headers, receive)
        except ClientGone:
            return
        except Refused as refused:
            answer = refusals.refuse(refused.status, refused.error, refused.headers)
            await answer(scope, receive, send)
            return
        await self._app(scope, replay(body, receive), send)

    async def _take(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        most = LARGE_BODY if scope["path"].startswith(LARGE_PREFIX) else SMALL_BODY
        _check_type(headers)
        if _declared(headers) > DISCARDED:
            raise Refused(413, "Request body too large", is_last=True)
        try:
            async with asyncio.timeout(self._seconds):
                body = await _read(receive, most)
        except TimeoutError:
            raise Refused(408, "Request body too slow", is_last=True) from None
        if is_too_deep(body):
            raise Refused(400, "Request body nested too deeply")
        return body


def is_too_deep(body: bytes) -> bool:
    """Say whether arrays and objects lie more than 32 deep; what is no JSON is left to the parser.

    Takes the innermost pairs away, level by level, which costs no step of Python per byte.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    brackets = _STRING.sub(b"", body).translate(_KINDS, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
    return b"[]" in brackets or brackets.count(b"[") > MAX_DEPTH


def _check_type(headers: dict[bytes, bytes]) -> None:
    media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if media_type != b"application/json" or encoding != b"identity":
        raise Refused(415, "Send application/json")


def _declared(headers: dict[bytes, bytes]) -> int:
    length = headers.get(b"content-length", b"")
    return int(length) if length.isdigit() else 0


async def _read(receive: Receive, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size <= most:
            parts.append(part)
        else:
            parts.clear()
        if not message.get("more_body") or size > DISCARDED:
            break
    if size > most:
        raise Refused(413, "Request body too large", is_last=True)
    return b"".join(parts)


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the whole body once, then what really comes."""
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return whole.pop() if whole else await receive()

    return replay
