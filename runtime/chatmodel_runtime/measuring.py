"""Counts every request of the public port, refused ones too; outermost of `app`'s middleware.

The route is one of a closed set: a path that is none of ours is `other`, whatever it says. Plain
ASGI: what wraps requests and answers costs three times as much.
"""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chatmodel_runtime import families
from chatmodel_runtime.metrics import Metrics

# What a status says by itself; `scheduling` knows the other refusals.
REFUSALS: dict[int, families.Refusal] = {
    401: "no_key",
    408: "body_too_slow",
    413: "body_too_large",
    415: "body_invalid",
    422: "body_invalid",
}
_ROUTES = frozenset(families.ROUTES)


class CountRequests:
    """Measure a request from its head to the end of its answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; what ends without an answer counts as 500."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        finally:
            route = scope["path"] if scope["path"] in _ROUTES else families.OTHER
            self._metrics.count_request(route, status, time.monotonic() - started)
            if status in REFUSALS:
                self._metrics.count_refusal(REFUSALS[status])
