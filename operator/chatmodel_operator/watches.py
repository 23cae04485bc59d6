"""kopf's session to the API server: it feeds the cache, and keeps a bad server from ending kopf.

kopf takes a session of our own from its login handler (`kopf.AiohttpSession`), and aiohttp lets a
session have a middleware: nothing of kopf is patched. What kopf lists and what was deleted is in
the cache before its handlers hear of it. Changes are told to `on_news` and end here: an event
whose handler only passes it on costs half a millisecond in kopf. kopf 1.45 would end on some
answers, and reconnect without a pause after others; each of them becomes one that it survives.
Decides nothing else.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pydantic_core

from chatmodel_operator import cache, pacing, reading
from chatmodel_operator.api_client import Connection, Place, place_of, read_retry_after

OnNews = Callable[[str, cache.Object], None]

logger = logging.getLogger(__name__)

RECONNECTS_A_SECOND, FREE_RECONNECTS = 1.0, 3
KOPF_SURVIVES = frozenset({401, 403})  # and everything from 500: it tries again with pauses
GONE = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired"}}\n'


class Watches:
    """What kopf lists and watches, seen from its session."""

    def __init__(self, store: cache.Cache, on_news: OnNews) -> None:
        self._store = store
        self._on_news = on_news
        self._paces: dict[tuple[Place, bool], pacing.Bucket] = {}
        self._not_before: dict[Place, float] = {}
        self._pages: dict[Place, list[cache.Object]] = {}
        self._open: dict[Place, aiohttp.ClientResponse] = {}
        self.reconnects = 0
        self.slowed = 0

    def open_session(self, connection: Connection) -> aiohttp.ClientSession:
        """Return a session for kopf."""

        async def intercept(
            request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
        ) -> aiohttp.ClientResponse:
            return await self._intercept(session, request, handler)

        connector = aiohttp.TCPConnector(limit=0, ssl=connection.ssl or True)
        session = aiohttp.ClientSession(
            connector=connector, headers=connection.headers, middlewares=(intercept,)
        )
        return session

    def restart_stalled(self, now: float) -> None:
        """Close the watches that owe us an event; kopf continues them from what it saw last."""
        kinds = self._store.stalled_kinds(now)
        for place in [place for place in self._open if place.kind in kinds]:
            logger.warning("the watch of %s is silent though we wrote: begun anew", place.kind)
            self._open.pop(place).close()

    async def _intercept(
        self,
        session: aiohttp.ClientSession,
        request: aiohttp.ClientRequest,
        handler: aiohttp.ClientHandlerType,
    ) -> aiohttp.ClientResponse:
        place = place_of(request.url.path)
        if request.method.upper() != "GET" or place is None or place.kind not in self._store.kinds:
            return await handler(request)
        query = request.url.query
        is_watch, is_next_page = "watch" in query, "continue" in query
        if not is_next_page:
            await self._wait_for_turn(place, is_watch=is_watch)
        if session.closed:  # another request's 401 did it; by this error kopf takes the new one
            raise RuntimeError("Session is closed")
        response = await handler(request)
        if response.status == 429:
            self._not_before[place] = _now() + read_retry_after(response.headers)
            raise aiohttp.ClientConnectionError(f"429 for {place.kind}")
        if response.status in KOPF_SURVIVES or response.status >= 500:
            return response
        if is_watch:
            return await self._watch(place, response)
        return await self._list(place, response, is_next_page=is_next_page)

    async def _wait_for_turn(self, place: Place, *, is_watch: bool) -> None:
        """Wait until the watch may be opened: three times at once, then once a second."""
        self.reconnects += is_watch and (place, is_watch) in self._paces
        new = pacing.Bucket(RECONNECTS_A_SECOND, FREE_RECONNECTS)
        bucket = self._paces.setdefault((place, is_watch), new)
        wait = max(bucket.take(_now()), self._not_before.get(place, 0.0) - _now())
        if wait > 0:
            self.slowed += 1
            await asyncio.sleep(wait * random.uniform(1.0, 1.25))

    async def _list(
        self, place: Place, response: aiohttp.ClientResponse, *, is_next_page: bool
    ) -> aiohttp.ClientResponse:
        """Take a page of a listing; the cache is given whole listings only."""
        if response.status >= 400:
            text = f"{response.status} for {place.kind}"
            if is_next_page:  # the rest of the listing cannot be had any more
                raise aiohttp.ClientPayloadError(text)
            raise aiohttp.ClientConnectionError(text)
        try:
            body = await response.json(loads=pydantic_core.from_json)
            items, meta = list(body["items"] or []), body["metadata"]
            version, following = int(meta["resourceVersion"]), meta.get("continue")
        except (ValueError, KeyError, TypeError, aiohttp.ContentTypeError) as error:
            raise aiohttp.ClientConnectionError(f"not a list of {place.kind}") from error
        pages = self._pages.setdefault(place, []) if is_next_page else []
        pages += items
        if following:
            self._pages[place] = pages
        else:
            self._pages.pop(place, None)
            self._store.replace(place.kind, place.namespace, pages, version)
        return response

    async def _watch(
        self, place: Place, response: aiohttp.ClientResponse
    ) -> aiohttp.ClientResponse:
        """Read along a watch; whatever it cannot be refused for means: list again."""
        if response.status >= 400:
            logger.warning("watch of %s refused: %d; listed again", place.kind, response.status)
            await response.read()
            response.status = 200
            response.content = _Refused()  # type: ignore[assignment]
            return response
        self._open[place] = response
        events = _Events(place, response.content, self._store, self._on_news)
        response.content = events  # type: ignore[assignment]
        return response


class _Refused:
    """The events of a watch that the server does not give."""

    async def iter_chunked(self, _size: int) -> AsyncIterator[bytes]:
        yield GONE


class _Events:
    """The body of a watch: whole events, of kinds that kopf survives, also for the cache."""

    def __init__(
        self, place: Place, body: aiohttp.StreamReader, store: cache.Cache, on_news: OnNews
    ) -> None:
        self._place = place
        self._body = body
        self._store = store
        self._on_news = on_news

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield whole lines; half an event at the end is none."""
        rest = b""
        self._store.open(self._place.kind, self._place.namespace)
        try:
            async for data in self._body.iter_chunked(size):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line.strip() and (taken := self._take(line)):
                        yield taken
        finally:
            self._store.close(self._place.kind, self._place.namespace)

    def _see(self, body: cache.Object) -> None:
        """Keep what was added or changed; tell of it when it can matter."""
        kind, meta = self._place.kind, body["metadata"]
        name = meta.get("namespace", ""), meta["name"]
        before = self._store.get(kind, *name)
        if not self._store.see(kind, body):
            return  # what we wrote ourselves is known already
        after = self._store.get(kind, *name)
        assert after is not None
        if reading.is_news(kind, before, after):
            self._on_news(kind, after)

    def _take(self, line: bytes) -> bytes:
        """Return what kopf is to hear of an event: nothing of changes, which are told here."""
        try:
            # Of equal short texts it makes one object: half the memory of a thousand ChatModels.
            event = pydantic_core.from_json(line)
            what, body = event["type"], event["object"]
            if what in ("ADDED", "MODIFIED"):
                self._see(body)
                return b""
            if what == "DELETED":
                self._store.see(self._place.kind, body, is_deleted=True)
        except (ValueError, KeyError, TypeError) as error:
            raise aiohttp.ClientPayloadError(f"not an event of {self._place.kind}") from error
        if what != "ERROR":
            return line + b"\n"
        # kopf lists again after 410 and ends after any other error; listing again suits them all.
        if body.get("code") != 410:
            logger.warning("watch of %s: %s; listed again", self._place.kind, body.get("message"))
        return GONE


def _now() -> float:
    return asyncio.get_running_loop().time()
