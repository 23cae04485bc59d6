"""The bytes of one file over HTTP: gone on with where they were cut, never more than promised.

Called by `hub`; knows nothing of models. Must never send the token to another origin than the
hub's, and never write into a file that another process has taken over.
"""

import dataclasses
import email.utils
import os
import pathlib
import random
import re
import stat
import time
import weakref
from collections.abc import Mapping

import httpx2

from chatmodel_runtime.errors import TryAgain

BUSY = frozenset({408, 429, 500, 502, 503, 504})
TRIES_IN_A_ROW, PATIENCE_SECONDS = 5, 300.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
REDIRECTS = 5
# Slower than this a transfer counts as cut, and its time as lost.
SLOW_SECONDS, SLOW_BYTES = 60.0, 64 * 1024
PART = ".part"


class Refused(Exception):
    """The hub's last word on a file: status (0: no answer), the hub's own code, seconds to wait."""

    def __init__(self, status: int, code: str = "", asked: float | None = None) -> None:
        super().__init__(status, code)
        self.status, self.code, self.asked = status, code, asked


class _Again(Exception):
    """This try is over; another may follow, after so many seconds if the hub says so."""

    def __init__(self, status: int = 0, asked: float | None = None) -> None:
        super().__init__(status)
        self.status, self.asked = status, asked


class Patience:
    """How long a busy or broken hub is borne in one command: seconds that brought nothing."""

    def __init__(self, seconds: float | None = None) -> None:
        self._left = PATIENCE_SECONDS if seconds is None else seconds
        self._in_a_row = 0

    def gained(self) -> None:
        """Note that bytes came: tries count from one again, the seconds stay spent."""
        self._in_a_row = 0

    def wait(self, asked: float | None, lost: float) -> bool:
        """Wait for the next try, as long as was asked; False, at once, when there is none."""
        self._in_a_row += 1
        pause = asked
        if pause is None:
            pause = min(FIRST_PAUSE * 2 ** (self._in_a_row - 1), LONGEST_PAUSE)
        pause *= random.uniform(1, 1.2)  # many pods may have been sent away in the same moment
        self._left -= lost + pause
        if self._left < 0 or self._in_a_row >= TRIES_IN_A_ROW:
            return False
        time.sleep(pause)
        return True


@dataclasses.dataclass(frozen=True)
class Order:
    """What is wanted: the first `stop` of the `size` bytes at an address, in the file `part`."""

    url: str
    part: pathlib.Path
    size: int
    stop: int


class Downloader:
    """Fetches from one hub and wherever it sends us; the token stays with the hub."""

    def __init__(self, endpoint: str, token: str | None, patience: Patience) -> None:
        self._home = _origin(httpx2.URL(endpoint))
        self._token = token
        self._patience = patience
        self._client = httpx2.Client(timeout=TIMEOUT, follow_redirects=False)
        weakref.finalize(self, self._client.close)
        self._received = 0

    def fetch(self, order: Order) -> None:
        """Bring `part` to `stop` bytes. Raises `Refused`, `TryAgain`, or `OSError` of the disk."""
        _prepare(order)
        while order.part.stat().st_size < order.stop:
            started, self._received = time.monotonic(), 0
            again = self._try(order)
            if self._received:
                self._patience.gained()
            if again is None:
                continue
            lost = 0.0 if self._received >= SLOW_BYTES else time.monotonic() - started
            if not self._patience.wait(again.asked, lost):
                raise Refused(again.status, asked=again.asked)

    def _try(self, order: Order) -> _Again | None:
        """Fetch as far as one answer goes; return why it ended early, None when it did not."""
        have = order.part.stat().st_size
        try:
            response = self._ask(order, have)
            try:
                _accept(response, order, have)
                self._receive(response, order)
            finally:
                response.close()
        except _Again as again:
            return again
        except (httpx2.HTTPError, httpx2.InvalidURL):
            return _Again()
        return None

    def _ask(self, order: Order, have: int) -> httpx2.Response:
        """Return the answer, its body unread, of whoever the hub sends us to."""
        url = httpx2.URL(order.url)
        for _ in range(REDIRECTS):
            headers = {"Accept-Encoding": "identity", "User-Agent": "chatmodel-runtime"}
            if have or order.stop < order.size:
                headers["Range"] = f"bytes={have}-{order.stop - 1}"
            at_home = _origin(url) == self._home
            if at_home and self._token:
                headers["Authorization"] = f"Bearer {self._token}"
            request = self._client.build_request("GET", url, headers=headers)
            response = self._client.send(request, stream=True)
            if not response.has_redirect_location:
                _judge(response, at_home=at_home)
                return response
            response.close()
            url = response.url.join(response.headers["Location"])
            if self._home[0] == "https" and url.scheme != "https":
                break
        raise _Again

    def _receive(self, response: httpx2.Response, order: Order) -> None:
        """Write the body where the file ends."""
        descriptor = os.open(order.part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        began, at_begin = time.monotonic(), 0
        try:
            at = os.fstat(descriptor).st_size
            # NB: not in pieces of one size: what is waiting to be one is lost with a cut.
            for block in response.iter_raw():
                block = block[: order.stop - at]
                _check_ours(descriptor, order.part)
                _write(descriptor, block, at)
                at += len(block)
                self._received += len(block)
                if at == order.stop:
                    return
                if time.monotonic() - began > SLOW_SECONDS:
                    if self._received - at_begin < SLOW_BYTES:
                        raise _Again
                    began, at_begin = time.monotonic(), self._received
        finally:
            os.close(descriptor)
        raise _Again  # an end without an error, before all bytes were there


def _prepare(order: Order) -> None:
    """Have a plain file to go on with: an empty one, or what an earlier try has left."""
    if order.part.exists() and order.part.stat().st_size > order.stop:
        order.part.unlink()
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(order.part, flags, 0o644)
    is_plain = stat.S_ISREG(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    if not is_plain:
        raise FileExistsError(order.part.name)


def _judge(response: httpx2.Response, *, at_home: bool) -> None:
    """Take an answer with bytes. Raises `_Again`, or `Refused` on the hub's own word alone."""
    status = response.status_code
    if status in (200, 206, 416):
        return
    if status in BUSY or not at_home:  # a storage refuses an address that was signed too long ago
        raise _Again(status, retry_after(response.headers))
    raise Refused(status, response.headers.get("X-Error-Code", ""))


def _accept(response: httpx2.Response, order: Order, have: int) -> None:
    """See that the body begins where the file ends; where it begins anew, so does the file."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise _Again
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if found and int(found[1]) == have and found[2] in (str(order.size), "*"):
            return
    elif response.status_code == 200 and not have:
        return
    # NB: a new file, not an emptied one: whoever had this one before may still write to it.
    order.part.unlink()
    _prepare(order)
    if response.status_code != 200:
        raise _Again


def _check_ours(descriptor: int, part: pathlib.Path) -> None:
    """See that the file still has its name: who takes a try over renames its folder."""
    try:
        there = os.stat(part, follow_symlinks=False)
    except FileNotFoundError:
        raise taken_over() from None
    if not os.path.samestat(there, os.fstat(descriptor)):
        raise taken_over()


def taken_over() -> TryAgain:
    """Return the ending of a process whose try another one goes on with."""
    return TryAgain("CacheMissing", "another process has taken this staging over")


def _write(descriptor: int, block: bytes, at: int) -> None:
    # Written at its place, not appended: late bytes of an earlier owner are the same bytes there.
    rest = memoryview(block)
    while rest:
        written = os.pwrite(descriptor, rest, at)
        rest, at = rest[written:], at + written


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds the hub asks to wait: Retry-After as number or date, or its RateLimit."""
    text = headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        found = re.search(r"\bt=(\d+)", headers.get("RateLimit", ""))
        return float(found[1]) if found else None


def may_pass(error: Exception, response: httpx2.Response | None) -> bool:
    """Say whether a question that ended like this may be answered a moment later."""
    if response is not None:
        return response.status_code in BUSY
    return isinstance(error, OSError | httpx2.TransportError)


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
