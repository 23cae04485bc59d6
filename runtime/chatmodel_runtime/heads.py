"""What a request's head may be: 16 KiB, and ten seconds to arrive; and how many connections.

The HTTP protocol that `server` runs. uvicorn with httptools limits none of it: it gathers headers
for as long as a client sends some, and waits for ever for a request that was begun. Never logs a
byte of a request.
"""

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from chatmodel_runtime import refusals

MAX_HEAD = 16 * 1024
HEAD_SECONDS = 10.0
FIRST_BYTE_SECONDS = 75.0
# On one port. Often a process may have 1024 descriptors: without any left no probe is accepted.
MAX_CONNECTIONS = 512


async def refuse_head(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 431, as an application."""
    answer = refusals.refuse(431, "Request header fields too large", refusals.LAST)
    await answer(scope, receive, send)


class LimitedHead(HttpToolsProtocol):
    """Refuses heads that are too large or too slow; all the rest is uvicorn's."""

    _in_head = False
    _unfinished = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the client a while to say its first word; refuse one connection too many."""
        super().connection_made(transport)
        self._served: Any = self.app
        self._timer = self.loop.call_later(FIRST_BYTE_SECONDS, self.timeout_keep_alive_handler)
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(503)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what is left of an unfinished head is counted and timed."""
        was_in_head = self._in_head
        if not was_in_head:
            self._stop_clock()
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            self._stop_clock()
        elif not was_in_head:  # the first piece may be the end of the request before
            self._unfinished = 0
            self._timer = self.loop.call_later(HEAD_SECONDS, self._refuse, 408)
        else:
            self._unfinished += len(data)
            if self._unfinished > MAX_HEAD:
                self._refuse(431)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole: start the application, or the refusal in its place."""
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        self.app = refuse_head if size > MAX_HEAD else self._served
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in our words."""
        self._refuse(400)

    def _refuse(self, status: int) -> None:
        """Answer without an application and close; cut short what else the client is answered."""
        is_free = self.cycle is None or self.cycle.response_complete
        if is_free and not self.transport.is_closing():
            answer = refusals.refuse(status, headers=refusals.LAST)
            lines = [b"%b: %b\r\n" % header for header in answer.raw_headers]
            self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", answer.body]))
        self.transport.close()

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
