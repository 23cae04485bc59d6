"""HTTP to the API server: one request function, errors made once, and the server's clock.

Used by `cluster` and `leadership`. Knows verbs and paths, nothing of ChatModels.
"""

import dataclasses
import datetime
import email.utils
import re
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import pydantic_core
from aiohttp.abc import AbstractStreamWriter

from chatmodel_operator import cputime, errors
from chatmodel_operator.api.fields import GROUP, VERSION

Body = Mapping[str, Any]
OnWrite = Callable[[str, Body | None, dict[str, Any] | None], None]
OnAnswer = Callable[[str, str, int | None], None]

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
    "PersistentVolumeClaim": ("/api/v1", "persistentvolumeclaims"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
    "Event": ("/apis/events.k8s.io/v1", "events"),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases"),
}


KINDS = {f"{prefix}/{plural}": kind for kind, (prefix, plural) in PATHS.items()}
_PATH = re.compile(
    r"(?P<prefix>/api/v1|/apis/[^/]+/[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/[^/]+)?"
)


@dataclasses.dataclass(frozen=True)
class Place:
    """What a path leads to: a kind's collection, or one object when it has a name."""

    kind: str
    namespace: str | None
    name: str | None


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


def place_of(path: str) -> Place | None:
    """Return what a path leads to, the reverse of `path_of`; None for unknown kinds."""
    found = _PATH.fullmatch(path)
    kind = KINDS.get(f"{found['prefix']}/{found['plural']}") if found else None
    return Place(kind, found["namespace"], found["name"]) if found and kind else None


def read_retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that a Retry-After header asks for, a number or a date; 0 without one."""
    text = headers.get("Retry-After", "")
    if text.isdigit():
        return float(text)
    try:
        until = email.utils.parsedate_to_datetime(text)
        now = email.utils.parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return 0.0


class _Payload(aiohttp.BytesPayload):
    """A body that asks once more when it is written; aiohttp sends the headers along with it."""

    def __init__(self, ask: Callable[[], None], value: bytes, **more: Any) -> None:
        super().__init__(value, **more)
        self._ask = ask

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        self._ask()
        await super().write_with_length(writer, content_length)


class ApiClient:
    """A thin asynchronous client; `connect` is called at first use and after a 401.

    `on_write` hears of every write: its path, what was sent, and the answer, or None for a 409.
    `on_answer` hears of every request: method, path, and the status, or None without an answer.
    `may_write` is asked before a write, and again right before its bytes leave: between the two
    lies the wait for a connection, and a process that is stopped there may wake much later.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        on_write: OnWrite = lambda *_: None,
        *,
        on_answer: OnAnswer = lambda *_: None,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._connect = connect
        self._on_write = on_write
        self._on_answer = on_answer
        self._may_write = may_write
        self._connection: Connection | None = None
        self._session: aiohttp.ClientSession | None = None
        self._clock: tuple[datetime.datetime, float] | None = None
        self._date = ""

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
        body: Body | None = None,
        content_type: str = JSON,
        **query: str,
    ) -> dict[str, Any]:
        """Send one request and return its JSON.

        Raises `Conflict` (409), `Rejected` (other 4xx) or `Unavailable` (5xx, 429, 410, an answer
        that is none, no answer).
        """
        try:
            with cputime.Waiting():
                answer = await self._send(method, path, body, content_type, query)
        except errors.Conflict:
            self._on_write(path, body, None)
            raise
        if method != "GET":
            self._on_write(path, body, answer)
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        body: Body | None,
        content_type: str,
        query: Mapping[str, str],
    ) -> dict[str, Any]:
        what = f"{method} {path}"
        for attempt in ("first", "after a new login"):
            session = self._open(renew=attempt != "first")
            self._ask(method, path)
            data = None if body is None else self._payload(method, path, body, content_type)
            try:
                async with session.request(
                    method, path, data=data, params=query, timeout=TIMEOUT
                ) as response:
                    self._on_answer(method, path, response.status)
                    self._set_clock(response.headers.get("Date"))
                    if response.status == 401 and attempt == "first":
                        continue
                    return await self._read(what, response)
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                if isinstance(error.__cause__, errors.Unavailable):
                    raise error.__cause__ from None  # of the payload
                self._on_answer(method, path, None)
                text = str(error) or type(error).__name__
                raise errors.Unavailable(what, type(error).__name__, text) from error
        raise AssertionError("the loop above returns or raises")

    def _ask(self, method: str, path: str) -> None:
        """Raise `Unavailable` for a write that may not be sent.

        Passes of a leader that has lost its Lease are being cancelled; until then: this.
        """
        if method != "GET" and not self._may_write():
            text = "another operator may be leading"
            raise errors.Unavailable(f"{method} {path}", "NotLeading", text)

    def _payload(self, method: str, path: str, body: Body, content_type: str) -> "_Payload":
        text = pydantic_core.to_json(body)
        return _Payload(lambda: self._ask(method, path), text, content_type=content_type)

    def _open(self, *, renew: bool) -> aiohttp.ClientSession:
        if self._session is not None and not renew:
            return self._session
        if self._connection is None or renew:
            self._connection = self._connect()
        if self._session is None:
            self._session = aiohttp.ClientSession(
                self._connection.server,
                connector=aiohttp.TCPConnector(limit=32, ssl=self._connection.ssl or True),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        self._session.headers.clear()
        self._session.headers.update(self._connection.headers)
        return self._session

    def _set_clock(self, header: str | None) -> None:
        if not header or header == self._date:
            return
        self._date = header
        date, seen = email.utils.parsedate_to_datetime(header), time.monotonic()
        if self._clock is not None:
            expected = self._clock[0] + datetime.timedelta(seconds=seen - self._clock[1])
            # The header has whole seconds: within one of them the running clock is the better one.
            if datetime.timedelta() <= expected - date < datetime.timedelta(seconds=1):
                return
        self._clock = (date, seen)

    async def _read(self, what: str, response: aiohttp.ClientResponse) -> dict[str, Any]:
        text = await response.read()
        try:
            body = pydantic_core.from_json(text)
        except ValueError:
            body = None
        if response.status < 400:
            if not isinstance(body, dict):  # a proxy's page must not pass for an empty list
                raise errors.Unavailable(what, "NoJson", f"no JSON object: {text[:100]!r}")
            return body
        body = body if isinstance(body, dict) else {}
        reason = str(body.get("reason") or response.reason or response.status)
        message = str(body.get("message") or text[:500].decode(errors="replace"))
        if response.status == 409:
            raise errors.Conflict(what, reason, message)
        if response.status in (410, 429) or response.status >= 500:
            wait = read_retry_after(response.headers)
            raise errors.Unavailable(what, reason, message, wait)
        raise errors.Rejected(what, reason, message)
