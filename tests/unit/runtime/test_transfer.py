"""The bytes of one file: cut, refused, sent elsewhere, too slow, taken over by another process."""

import email.utils
import http.server
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from small_models import COMMIT, FILES

from chatmodel_runtime import transfer
from chatmodel_runtime.errors import TryAgain

WEIGHTS = FILES["model.safetensors"]
NAME = "model.safetensors"
TOKEN = "hf_AbCdEfGhIjKlMnOpQrSt"


class Mirror(Protocol):
    """The fixture of conftest.py, as far as it is used here."""

    endpoint: str

    def fail(self, *faults: dict[str, Any]) -> None: ...
    def asked(self, part: str) -> list[dict[str, Any]]: ...


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses that were made; none takes its time."""
    made: list[float] = []
    sleep = time.sleep

    def note(seconds: float) -> None:
        if seconds:  # the mirror sleeps too, for no time
            made.append(seconds)
        sleep(0)

    monkeypatch.setattr(transfer.time, "sleep", note)
    return made


def order(endpoint: str, folder: pathlib.Path) -> transfer.Order:
    url = f"{endpoint}/demo/tiny/resolve/{COMMIT}/{NAME}"
    return transfer.Order(url, folder / f"{NAME}.part", len(WEIGHTS), len(WEIGHTS))


def fetch(mirror: Mirror, folder: pathlib.Path, seconds: float | None = None) -> bytes:
    wanted = order(mirror.endpoint, folder)
    transfer.Downloader(mirror.endpoint, None, transfer.Patience(seconds)).fetch(wanted)
    return wanted.part.read_bytes()


def test_what_was_cut_is_gone_on_with(
    mirror: Mirror, tmp_path: pathlib.Path, pauses: list[float]
) -> None:
    mirror.fail({"match": NAME, "cut": 100_000}, {"match": NAME, "short": 50_000})
    assert fetch(mirror, tmp_path) == WEIGHTS
    ranges = [request["range"] for request in mirror.asked(NAME)]
    assert ranges == ["", "bytes=100000-399999", "bytes=150000-399999"]
    assert len(pauses) == 2


def test_another_process_goes_on_where_one_was_cut(mirror: Mirror, tmp_path: pathlib.Path) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(WEIGHTS[:300_000])
    assert fetch(mirror, tmp_path) == WEIGHTS
    assert [request["range"] for request in mirror.asked(NAME)] == ["bytes=300000-399999"]


@pytest.mark.parametrize("there", [b"x" * 500_000, WEIGHTS + b"x"])
def test_what_is_longer_than_promised_is_begun_anew(
    mirror: Mirror, tmp_path: pathlib.Path, there: bytes
) -> None:
    (tmp_path / f"{NAME}.part").write_bytes(there)
    assert fetch(mirror, tmp_path) == WEIGHTS


def test_a_link_in_the_way_is_not_written_through(mirror: Mirror, tmp_path: pathlib.Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    (tmp_path / f"{NAME}.part").symlink_to(outside)
    with pytest.raises(OSError):
        fetch(mirror, tmp_path)
    assert outside.read_bytes() == b"precious"


def test_a_connection_that_is_cut_for_ever_ends_the_patience(
    mirror: Mirror, tmp_path: pathlib.Path, pauses: list[float]
) -> None:
    mirror.fail({"match": NAME, "cut": 0, "times": 99})
    with pytest.raises(transfer.Refused) as caught:
        fetch(mirror, tmp_path)
    assert caught.value.status == 0
    assert len(mirror.asked(NAME)) == transfer.TRIES_IN_A_ROW
    assert pauses == sorted(pauses) and len(pauses) == transfer.TRIES_IN_A_ROW - 1


def test_a_connection_that_is_always_cut_but_brings_a_little_costs_the_budget(
    mirror: Mirror, tmp_path: pathlib.Path, pauses: list[float]
) -> None:
    mirror.fail({"match": NAME, "cut": 1, "times": 999})
    with pytest.raises(transfer.Refused):
        fetch(mirror, tmp_path, seconds=30)
    assert 20 < sum(pauses) <= 30
    assert (tmp_path / f"{NAME}.part").stat().st_size == len(pauses) + 1


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_hub_is_waited_for_as_long_as_it_asks(
    mirror: Mirror, tmp_path: pathlib.Path, pauses: list[float], status: int
) -> None:
    mirror.fail({"match": NAME, "status": status, "headers": {"Retry-After": "40"}, "times": 2})
    assert fetch(mirror, tmp_path) == WEIGHTS
    assert len(pauses) == 2 and all(40 <= pause <= 48 for pause in pauses)


def test_a_hub_that_asks_for_more_than_the_budget_is_not_waited_for(
    mirror: Mirror, tmp_path: pathlib.Path, pauses: list[float]
) -> None:
    mirror.fail({"match": NAME, "status": 429, "headers": {"Retry-After": "3600"}})
    with pytest.raises(transfer.Refused) as caught:
        fetch(mirror, tmp_path)
    assert (caught.value.status, caught.value.asked, pauses) == (429, 3600, [])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_of_the_hub_is_not_asked_again(
    mirror: Mirror, tmp_path: pathlib.Path, pauses: list[float], status: int
) -> None:
    mirror.fail({"match": NAME, "status": status, "times": 99})
    with pytest.raises(transfer.Refused) as caught:
        fetch(mirror, tmp_path)
    assert (caught.value.status, pauses, len(mirror.asked(NAME))) == (status, [], 1)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"RateLimit": '"api";r=0;t=55'}, 55),
        ({}, None),
    ],
)
def test_the_hub_says_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert transfer.retry_after(headers) == seconds


def test_the_hub_may_name_a_moment() -> None:
    then = email.utils.formatdate(time.time() + 100, usegmt=True)
    asked = transfer.retry_after({"Retry-After": then})
    assert asked is not None and 90 < asked <= 100


def test_a_transfer_that_trickles_counts_as_cut(
    mirror: Mirror, tmp_path: pathlib.Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SLOW_SECONDS", -1.0)
    monkeypatch.setattr(transfer, "SLOW_BYTES", len(WEIGHTS))
    assert fetch(mirror, tmp_path, seconds=1e6) == WEIGHTS
    assert len(pauses) == len(mirror.asked(NAME)) - 1 > 0


class Odd(http.server.BaseHTTPRequestHandler):
    """Answers as it is told: a list of (status, headers, body), the last one for ever."""

    answers: list[tuple[int, dict[str, str], bytes]]
    seen: list[str | None]
    go_on: threading.Event

    def log_message(self, *args: Any) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization"))
        status, headers, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:1000])
        assert self.go_on.wait(timeout=30)
        self.wfile.write(body[1000:])


@pytest.fixture
def two() -> Iterator[list[tuple[str, type[Odd]]]]:
    """Two hosts that answer as they are told."""
    hosts, servers = [], []
    for name in ("127.0.0.1", "localhost"):
        kind = type("Kind", (Odd,), {"seen": [], "answers": [], "go_on": threading.Event()})
        kind.go_on.set()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        hosts.append((f"http://{name}:{server.server_port}", kind))
        servers.append(server)
    yield hosts
    for server in servers:
        server.shutdown()
        server.server_close()


GOOD = (200, {}, WEIGHTS)


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([(200, {}, WEIGHTS)], id="the whole file, whatever was asked"),
        pytest.param([(416, {}, b""), GOOD], id="no such range"),
        pytest.param(
            [(206, {"Content-Range": "bytes 5-9/400000"}, b"12345"), GOOD], id="another range"
        ),
        pytest.param(
            [(206, {"Content-Range": "bytes 1000-1004/9"}, b"12345"), GOOD], id="of another file"
        ),
        pytest.param([(206, {}, b"12345"), GOOD], id="a range without a name"),
        pytest.param([(200, {"Content-Encoding": "gzip"}, b"12345"), GOOD], id="packed"),
        pytest.param([(200, {}, WEIGHTS + b"more")], id="more than was promised"),
        pytest.param([(302, {"Location": "http://[bad"}, b""), GOOD], id="sent to nowhere"),
    ],
)
@pytest.mark.usefixtures("pauses")
def test_an_answer_to_another_question_harms_nothing(
    two: list[tuple[str, type[Odd]]],
    tmp_path: pathlib.Path,
    answers: list[tuple[int, dict[str, str], bytes]],
) -> None:
    endpoint, kind = two[0]
    kind.answers = list(answers)
    wanted = order(endpoint, tmp_path)
    wanted.part.write_bytes(WEIGHTS[:1000])
    held = wanted.part.open("rb")
    transfer.Downloader(endpoint, None, transfer.Patience()).fetch(wanted)
    assert wanted.part.read_bytes() == WEIGHTS
    assert held.read() in (WEIGHTS, WEIGHTS[:1000])  # what others have open is not emptied
    held.close()


@pytest.mark.usefixtures("pauses")
def test_a_storage_that_refuses_is_asked_for_again_at_the_hub_and_never_sees_the_token(
    two: list[tuple[str, type[Odd]]], tmp_path: pathlib.Path
) -> None:
    (endpoint, home), (elsewhere, storage) = two
    home.answers = [(302, {"Location": f"{elsewhere}/signed"}, b"")]
    storage.answers = [(403, {}, b"expired"), (200, {}, WEIGHTS)]
    wanted = order(endpoint, tmp_path)
    transfer.Downloader(endpoint, TOKEN, transfer.Patience()).fetch(wanted)
    assert wanted.part.read_bytes() == WEIGHTS
    assert home.seen == [f"Bearer {TOKEN}"] * 2
    assert storage.seen == [None, None]


@pytest.mark.usefixtures("pauses")
def test_a_host_that_sends_us_in_circles_is_given_up(
    two: list[tuple[str, type[Odd]]], tmp_path: pathlib.Path
) -> None:
    endpoint, home = two[0]
    home.answers = [(302, {"Location": endpoint}, b"")]
    with pytest.raises(transfer.Refused):
        downloader = transfer.Downloader(endpoint, TOKEN, transfer.Patience())
        downloader.fetch(order(endpoint, tmp_path))
    assert len(home.seen) == transfer.REDIRECTS * transfer.TRIES_IN_A_ROW


def test_who_was_taken_over_writes_nothing_more(
    mirror: Mirror, two: list[tuple[str, type[Odd]]], tmp_path: pathlib.Path
) -> None:
    endpoint, home = two[0]
    home.answers = [(200, {}, bytes(len(WEIGHTS)))]
    home.go_on.clear()
    work, taken = tmp_path / "work", tmp_path / "taken"
    work.mkdir()
    failures: list[TryAgain] = []

    def run() -> None:
        try:
            transfer.Downloader(endpoint, None, transfer.Patience()).fetch(order(endpoint, work))
        except TryAgain as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    part = work / f"{NAME}.part"
    while not part.exists() or part.stat().st_size < 1000:
        assert thread.is_alive()
    work.rename(taken)
    (taken / f"{NAME}.part").write_bytes(b"")
    assert fetch(mirror, taken) == WEIGHTS
    home.go_on.set()
    thread.join(timeout=30)
    assert [str(failure) for failure in failures] == [str(transfer.taken_over())]
    assert (taken / f"{NAME}.part").read_bytes() == WEIGHTS
    assert not work.exists()
