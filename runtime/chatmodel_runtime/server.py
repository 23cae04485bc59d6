"""Two HTTP servers, the management port's in a thread of its own, and how connections end.

Called by `commands`. A connection is closed with an answer once it is older than a maximum age, so
that clients that keep connections alive follow a switch of the Service; after SIGTERM every answer
closes its connection, until the drain window is over (`draining`) and what runs has finished.
"""

import asyncio
import concurrent.futures
import logging
import random
import signal
import socket
import threading
import time
from collections.abc import Awaitable
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatmodel_runtime import draining, heads, logs
from chatmodel_runtime.errors import ConfigError

logger = logging.getLogger(__name__)
KEEP_ALIVE_SECONDS = 75
SPREAD = 0.2
FORGET_SECONDS = 2 * KEEP_ALIVE_SECONDS


class EndConnections:
    """Add `Connection: close` to answers on old connections, and to all while draining."""

    def __init__(self, app: ASGIApp, max_age_seconds: float, drain: draining.Drain) -> None:
        self._app = app
        self._max_age = max_age_seconds
        self._drain = drain
        # (client address, port) → (when it ends, when it was last used)
        self._connections: dict[tuple[str, int], tuple[float, float]] = {}
        self._swept = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; the header is added when the answer begins."""
        if scope["type"] != "http" or not scope.get("client"):
            await self._app(scope, receive, send)
            return
        client = (scope["client"][0], scope["client"][1])
        self._drain.note_request()
        self._touch(client)

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start" and self._is_over(client):
                self._connections.pop(client, None)
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_last)

    def _touch(self, client: tuple[str, int]) -> None:
        now = time.monotonic()
        if client in self._connections:
            end, _ = self._connections[client]
        else:
            end = now + self._max_age * random.uniform(1 - SPREAD, 1 + SPREAD)
        self._connections[client] = (end, now)
        if now - self._swept > FORGET_SECONDS:
            self._swept = now
            fresh = {k: v for k, v in self._connections.items() if now - v[1] < FORGET_SECONDS}
            self._connections = fresh

    def _is_over(self, client: tuple[str, int]) -> bool:
        end, _ = self._connections.get(client, (0.0, 0.0))
        return self._drain.has_begun() or time.monotonic() >= end


def _configure(app: ASGIApp, host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=heads.LimitedHead,
        ws="none",  # there is nothing to talk to; an upgrade is answered as any request
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        lifespan="off",
        server_header=False,
    )


def serve_in_thread(app: ASGIApp, port: int) -> None:
    """Serve an application beside the main thread's work, until the process ends."""
    server = uvicorn.Server(_configure(app, "0.0.0.0", port))
    threading.Thread(target=server.run, daemon=True).start()


def _serve_beside(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve in this thread's own event loop until `should_exit`."""

    async def serve() -> None:
        asyncio.get_running_loop().set_exception_handler(logs.log_uncaught)
        await server._serve([listener])

    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(serve())


class Servers:
    """The public and the management server of one process."""

    def __init__(self, drain: draining.Drain) -> None:
        self.drain = drain
        self._here: list[tuple[uvicorn.Server, socket.socket]] = []
        self._beside: list[tuple[uvicorn.Server, socket.socket]] = []
        self._stop = asyncio.Event()

    def add(self, app: ASGIApp, host: str, port: int, *, beside: bool = False) -> None:
        """Add an application, for this event loop or for one beside it in a thread.

        Raises `ConfigError` when the port is taken.
        """
        try:
            listener = socket.create_server((host, port), backlog=2048)
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        into = self._beside if beside else self._here
        into.append((uvicorn.Server(_configure(app, host, port)), listener))

    async def run(self, work: Awaitable[None]) -> bool:
        """Serve until SIGTERM or SIGINT; raise what `work` (loading the model) raises.

        Return whether the work was done by then. If not, nobody was sent here, and nothing is
        waited for.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(logs.log_uncaught)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        threads = concurrent.futures.ThreadPoolExecutor(thread_name_prefix="beside")
        serving: list[asyncio.Future[Any]] = [
            *(asyncio.ensure_future(s._serve([listener])) for s, listener in self._here),
            *(loop.run_in_executor(threads, _serve_beside, *one) for one in self._beside),
        ]
        loading = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait([loading, stopping, *serving], return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                logger.info("told to end while loading")
                return False
            loading.result()
            await asyncio.wait([stopping, *serving], return_when=asyncio.FIRST_COMPLETED)
            logger.info("draining", extra={"seconds": self.drain.seconds})
            await self.drain.run()
            logger.info("drained")
            return True
        finally:
            for task in (loading, stopping):
                task.cancel()
            for server, _ in self._here + self._beside:
                server.should_exit = True
            await asyncio.gather(*serving, return_exceptions=True)
            threads.shutdown()
