"""HTTP to the API server: one request function, errors made once, and the server's clock.

Used by `cluster` only. Knows verbs and paths, nothing of ChatModels.
"""

import dataclasses
import datetime
import email.utils
import json
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from chatmodel_operator import errors
from chatmodel_operator.api.fields import GROUP, VERSION

TIMEOUT = aiohttp.ClientTimeout(total=15)
APPLY, MERGE, JSON = (
    "application/apply-patch+yaml",
    "application/merge-patch+json",
    "application/json",
)

# kind → (API prefix, plural)
PATHS = {
    "ChatModel": (f"/apis/{GROUP}/{VERSION}", "chatmodels"),
    "ChatModelRevision": (f"/apis/{GROUP}/{VERSION}", "chatmodelrevisions"),
    "InstanceClass": (f"/apis/{GROUP}/{VERSION}", "instanceclasses"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "Job": ("/apis/batch/v1", "jobs"),
    "Pod": ("/api/v1", "pods"),
    "Service": ("/api/v1", "services"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "Secret": ("/api/v1", "secrets"),
    "Event": ("/apis/events.k8s.io/v1", "events"),
}


@dataclasses.dataclass(frozen=True)
class Connection:
    """Where the API server is, and how to prove who we are."""

    server: str
    headers: Mapping[str, str]
    ssl: ssl.SSLContext | None


def path_of(kind: str, namespace: str | None, name: str | None = None, part: str = "") -> str:
    """Return the URL path of a kind's collection, or of one object, or of its subresource."""
    prefix, plural = PATHS[kind]
    where = f"/namespaces/{namespace}" if namespace else ""
    tail = "".join(f"/{piece}" for piece in (name, part) if piece)
    return f"{prefix}{where}/{plural}{tail}"


class ApiClient:
    """A thin asynchronous client; `connect` is called at first use and after a 401."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._session: aiohttp.ClientSession | None = None
        self._clock: tuple[datetime.datetime, float] | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def now(self) -> datetime.datetime:
        """Return the server's time: its last Date header, moved on by the local monotonic clock.

        Raises `errors.Unavailable` before the first answer.
        """
        if self._clock is None:
            raise errors.Unavailable("clock", "NoAnswer", "the API server has not answered yet")
        date, at = self._clock
        return date + datetime.timedelta(seconds=time.monotonic() - at)

    async def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = JSON,
        **query: str,
    ) -> dict[str, Any]:
        """Send one request and return its JSON.

        Raises `Conflict` (409), `Rejected` (other 4xx) or `Unavailable` (5xx, 429, no answer).
        """
        what = f"{method} {path}"
        for attempt in ("first", "after a new login"):
            session = self._open(renew=attempt != "first")
            data = None if body is None else json.dumps(body)
            headers = {"Content-Type": content_type} if body is not None else {}
            try:
                async with session.request(
                    method, path, data=data, params=query, headers=headers, timeout=TIMEOUT
                ) as response:
                    self._set_clock(response.headers.get("Date"))
                    if response.status == 401 and attempt == "first":
                        continue
                    return await self._read(what, response)
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                text = str(error) or type(error).__name__
                raise errors.Unavailable(what, type(error).__name__, text) from error
        raise AssertionError("the loop above returns or raises")

    def _open(self, *, renew: bool) -> aiohttp.ClientSession:
        if self._connection is None or renew:
            self._connection = self._connect()
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=32, ssl=self._connection.ssl or True)
            self._session = aiohttp.ClientSession(self._connection.server, connector=connector)
        self._session.headers.clear()
        self._session.headers.update(self._connection.headers)
        return self._session

    def _set_clock(self, header: str | None) -> None:
        if not header:
            return
        date, seen = email.utils.parsedate_to_datetime(header), time.monotonic()
        if self._clock is not None:
            expected = self._clock[0] + datetime.timedelta(seconds=seen - self._clock[1])
            # The header has whole seconds: within one of them the running clock is the better one.
            if datetime.timedelta() <= expected - date < datetime.timedelta(seconds=1):
                return
        self._clock = (date, seen)

    async def _read(self, what: str, response: aiohttp.ClientResponse) -> dict[str, Any]:
        text = await response.text()
        try:
            body = json.loads(text)
        except ValueError:
            body = {}
        if response.status < 400:
            return body if isinstance(body, dict) else {}
        reason = str(body.get("reason") or response.reason or response.status)
        message = str(body.get("message") or text[:500])
        if response.status == 409:
            raise errors.Conflict(what, reason, message)
        if response.status == 429 or response.status >= 500:
            wait = response.headers.get("Retry-After", "")
            raise errors.Unavailable(what, reason, message, float(wait) if wait.isdigit() else 0.0)
        raise errors.Rejected(what, reason, message)
