"""The operator's port for machines: /livez, /readyz and /metrics.

Started by `handlers` before anything else, so that a process that waits for the API server is seen
to be alive. Liveness never asks the API server: restarting an operator does not mend one. Decides
nothing; what is wrong is said by whoever knows.
"""

import asyncio
from collections.abc import Callable

from aiohttp import web

from chatmodel_operator.metrics import CONTENT_TYPE

Fault = Callable[[], str | None]


class HealthServer:
    """Answers 200 where `dead` and `unready` find no fault, else 503 with the sentence."""

    def __init__(self, dead: Fault, unready: Fault, scrape: Callable[[], bytes]) -> None:
        self._dead, self._unready, self._scrape = dead, unready, scrape
        self._runner: web.AppRunner | None = None

    async def start(self, port: int, host: str | None = None) -> None:
        """Listen, on all addresses unless one is given. Raises `OSError` when the port is taken."""
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _livez(self, _: web.Request) -> web.Response:
        return _answer(self._dead())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self._unready())

    async def _metrics(self, _: web.Request) -> web.Response:
        # A thousand ChatModels are some 20,000 lines: not on the loop that renews the Lease.
        text = await asyncio.to_thread(self._scrape)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})


def _answer(fault: str | None) -> web.Response:
    return web.Response(status=503 if fault else 200, text=f"{fault or 'ok'}\n")
