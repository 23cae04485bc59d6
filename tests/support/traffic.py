"""Clients that go on asking while something is changed under them: did anybody notice?

    CHATMODEL_API_KEY=... traffic.py http://triage:8002 --rate 20 --seconds 60
    with Traffic(url, key=key) as traffic: ...; traffic.summary()   # in a test

Every second worker keeps its connection, the others open one for each request. Nothing is tried
again: whatever is not a 200 that names its revision is a failure. SIGTERM or SIGINT ends it, after
the answers under way; the summary is one JSON object on standard output.

Standard library only, one file: it runs in a pod of the base image, also from standard input. The
key comes from the environment or a file and appears nowhere; neither do questions and answers.
"""

import argparse
import collections
import contextlib
import datetime
import http.client
import itertools
import json
import os
import pathlib
import signal
import sys
import threading
import time
import urllib.parse
from typing import Any

ENV_KEY = "CHATMODEL_API_KEY"
# Times of day that no correction of the clock moves.
_OFFSET = time.time() - time.monotonic()
QUESTION = {"patient_mrn": "MRN-001", "query": "I have a mild sore throat since yesterday."}


class Traffic:
    """Workers that ask `url` until stopped, together at most `rate` times a second."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        workers: int = 4,
        rate: float = 20.0,
        timeout: float = 60.0,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http URL: {url}")
        secure = parts.scheme == "https"
        self._connect = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._host, self._port = parts.hostname, parts.port or (443 if secure else 80)
        self._path = parts.path.rstrip("/") or "/triage"
        self._timeout = timeout
        self._headers = {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._interval = workers / rate
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._began = self._finished = 0.0
        self._seconds: dict[int, list[int]] = collections.defaultdict(lambda: [0, 0])
        self._failures: collections.Counter[str] = collections.Counter()
        self._revisions: dict[str, dict[str, Any]] = {}
        self._answered: list[float] = []
        self._durations: list[float] = []
        self._workers = [
            threading.Thread(target=self._work, args=(number, number * self._interval / workers))
            for number in range(workers)
        ]

    def start(self) -> None:
        """Begin to ask."""
        self._began = _now()
        for worker in self._workers:
            worker.start()

    def can_connect(self, seconds: float) -> bool:
        """Wait at most so long until a connection is taken; say whether one is."""
        end = time.monotonic() + seconds
        while seconds > 0:
            connection = self._connect(self._host, self._port, timeout=self._timeout)
            with contextlib.closing(connection), contextlib.suppress(OSError):
                connection.connect()
                return True
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def stop(self) -> None:
        """Ask no more, and wait for the answers under way."""
        self._ended.set()
        for worker in self._workers:
            worker.join()
        self._finished = self._finished or _now()

    def __enter__(self) -> "Traffic":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def revisions(self) -> list[str]:
        """Return the revisions that answered so far, in the order they were first seen."""
        with self._lock:
            return list(self._revisions)

    def summary(self) -> dict[str, Any]:
        """Return what was counted so far."""
        with self._lock:
            until = self._finished or _now()
            succeeded, failed = len(self._answered), sum(self._failures.values())
            return {
                "startedAt": _format(self._began),
                "seconds": round(until - self._began, 3),
                "requests": succeeded + failed,
                "succeeded": succeeded,
                "failed": failed,
                "failures": dict(self._failures),
                "longestGapSeconds": round(self._longest_gap(until), 3),
                "answerSeconds": _describe(sorted(self._durations)),
                "revisions": self._revisions,
                "perSecond": [[second, *self._seconds[second]] for second in sorted(self._seconds)],
            }

    def _longest_gap(self, until: float) -> float:
        moments = [self._began, *sorted(self._answered), until]
        return max(after - before for before, after in itertools.pairwise(moments))

    def _work(self, number: int, delay: float) -> None:
        keeps = number % 2 == 0
        connection = self._connect(self._host, self._port, timeout=self._timeout)
        due = time.monotonic() + delay
        try:
            while not self._ended.wait(max(0.0, due - time.monotonic())):
                # What a slow answer held up is not made up for.
                due = max(due, time.monotonic() - self._interval) + self._interval
                self._ask(connection, keeps)
                if not keeps:
                    connection.close()
        finally:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, keeps: bool) -> None:
        headers = self._headers | ({} if keeps else {"Connection": "close"})
        started = _now()
        try:
            connection.request("POST", self._path, json.dumps(QUESTION), headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._count(started, type(error).__name__, None)
            return
        revision = _revision_of(body) if response.status == 200 else None
        reason = str(response.status) if response.status != 200 else "no revision in the answer"
        self._count(started, reason, revision)

    def _count(self, started: float, reason: str, revision: str | None) -> None:
        now = _now()
        with self._lock:
            self._seconds[int(now - self._began)][revision is None] += 1
            if revision is None:
                self._failures[reason] += 1
                return
            self._answered.append(now)
            self._durations.append(now - started)
            seen = self._revisions.setdefault(revision, {"requests": 0, "firstSeen": _format(now)})
            seen["requests"] += 1
            seen["lastSeen"] = _format(now)


def _now() -> float:
    return _OFFSET + time.monotonic()


def _revision_of(body: bytes) -> str | None:
    with contextlib.suppress(ValueError):
        answer = json.loads(body)
        if isinstance(answer, dict) and isinstance(answer.get("revision"), str):
            return str(answer["revision"])
    return None


def _format(moment: float) -> str:
    text = datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _describe(durations: list[float]) -> dict[str, float]:
    """Return median, 99th percentile and maximum of sorted durations."""
    if not durations:
        return {}
    last = len(durations) - 1
    ranks = {"p50": last // 2, "p99": last * 99 // 100, "max": last}
    return {name: round(durations[rank], 3) for name, rank in ranks.items()}


def main() -> None:
    """Ask until told to stop, then print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("url", help="the Service, as http://triage:8002; /triage when without path")
    parser.add_argument("--workers", type=int, default=4, help="clients (default 4)")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second (default 20)")
    parser.add_argument("--seconds", type=float, help="end after so long (default: at SIGTERM)")
    parser.add_argument(
        "--wait",
        type=float,
        default=0.0,
        help="seconds a new Service has to take a connection, uncounted (default 0)",
    )
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one answer")
    parser.add_argument(
        "--key-file", type=pathlib.Path, help=f"file with the API key (default: ${ENV_KEY})"
    )
    args = parser.parse_args()
    if args.workers < 1 or args.rate <= 0:
        parser.error("--workers and --rate must be positive")
    key = args.key_file.read_text().strip() if args.key_file else os.environ.get(ENV_KEY)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    options = {"workers": args.workers, "rate": args.rate, "timeout": args.timeout}
    try:
        traffic = Traffic(args.url, key=key, **options)
    except ValueError as error:
        parser.error(str(error))
    if not traffic.can_connect(args.wait):
        sys.exit(f"{args.url} took no connection within {args.wait:.0f} s")
    with traffic:
        ended.wait(args.seconds)
    json.dump(traffic.summary(), sys.stdout)
    print(flush=True)


if __name__ == "__main__":
    main()
