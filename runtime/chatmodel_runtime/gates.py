"""Who gets in at all: whoever has a key, so many of each, and as many as the queue has room for.

Plain ASGI, put around the routes by `app`, before anything reads a body.
"""

import asyncio
import time
from collections.abc import Callable

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from chatmodel_runtime import (
    keys,
    openai_api,
    outcomes,
    rates,
    refusals,
    request_log,
    scheduling,
)
from chatmodel_runtime.metrics import Metrics

OPEN_PATHS = frozenset({"/health", "/ready"})
KEY_HEADERS = (b"authorization", b"x-api-key")
TRIAGE = "/triage"
# Who is refused hears of it a little later: of clients who ask again at once, whatever Retry-After
# says, a flood would keep the event loop from those who are being answered.
PAUSE_SECONDS = 0.1


class RequireKey:
    """Refuse everything but the probes without a valid key."""

    def __init__(self, app: ASGIApp, api_keys: keys.ApiKeys) -> None:
        self._app = app
        self._keys = api_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 401."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            given = {
                k.decode(): v.decode("latin-1") for k, v in scope["headers"] if k in KEY_HEADERS
            }
            owner = self._keys.find_owner(given)
            if owner is None:
                refusal = refusals.refuse(401, "API key missing or wrong")
                await refusal(scope, receive, send)
                return
            keys.note_owner(scope, owner)
        await self._app(scope, receive, send)


class RefuseOverload:
    """Refuse before the body is read what the queue has no room for.

    Reading, checking and looking up first would let a flood keep the event loop from the probes.
    """

    def __init__(self, app: ASGIApp, scheduler: scheduling.Scheduler) -> None:
        self._app = app
        self._scheduler = scheduler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 429 as the route words it."""
        refuse = REFUSALS.get(scope["path"]) if scope["type"] == "http" else None
        if refuse is None or not self._scheduler.is_full():
            await self._app(scope, receive, send)
            return
        entry = request_log.Entry(scope["path"])
        refusal = refuse(self._scheduler.refuse(), entry.trace_id)
        entry.write(refusal.status_code)
        await asyncio.sleep(PAUSE_SECONDS)
        await refusal(scope, receive, send)


class LimitRate:
    """Refuse a key that asks for more answers than it may have; inside of `RequireKey`."""

    def __init__(self, app: ASGIApp, per_minute: int, metrics: Metrics) -> None:
        self._app = app
        self._rates = rates.Rates(per_minute)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 429 as the route words it."""
        refuse = REFUSALS.get(scope["path"]) if scope["type"] == "http" else None
        try:
            if refuse is not None:
                self._rates.take(keys.read_owner(scope), time.monotonic())
        except rates.TooOften as error:
            assert refuse is not None
            self._metrics.count_refusal("too_often")
            entry = request_log.Entry(scope["path"])
            refusal = refuse(error, entry.trace_id)
            entry.write(refusal.status_code)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)


def refuse_triage(error: Exception, trace_id: str) -> JSONResponse:
    """Return what a client of `/triage` reads of an error."""
    found = outcomes.describe(error, trace_id)
    return refusals.build(found.status, found.sentence, trace_id, found.headers)


# The routes that generate, and how each words a refusal.
REFUSALS: dict[str, Callable[[Exception, str], JSONResponse]] = {
    TRIAGE: refuse_triage,
    openai_api.CHAT: openai_api.refuse,
}
