"""The hub's token: read from its file, sent to the hub alone, repeated nowhere."""

import http.server
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

import pytest
from small_models import COMMIT, FILES

from chatmodel_runtime import hub, settings
from chatmodel_runtime.errors import Failure, TryAgain

TOKEN = "hf_AbCdEfGhIjKlMnOpQrSt"
MODEL = "demo/tiny"
CONFIG = hub.RemoteFile("config.json", len(FILES["config.json"]))


class Mirror(Protocol):
    """The fixture of conftest.py, as far as it is used here."""

    endpoint: str

    def fail(self, *faults: dict[str, Any]) -> None: ...
    def asked(self, part: str) -> list[dict[str, Any]]: ...


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pauses take no time."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.005)))


class Redirector(http.server.BaseHTTPRequestHandler):
    """Sends whoever fetches a file to another host, which notes the credentials."""

    elsewhere = ""
    seen: list[tuple[str, str | None]]

    def log_message(self, *args: Any) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        body = FILES["config.json"]
        if self.elsewhere:
            self.send_response(302)
            self.send_header("Location", self.elsewhere + self.path)
            self.send_header("X-Linked-Size", str(len(body)))
            self.send_header("X-Linked-Etag", '"abc"')
        else:
            self.send_response(200)
        self.send_header("ETag", '"abc"')
        self.send_header("X-Repo-Commit", COMMIT)
        length = 0 if self.elsewhere else len(body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if length and self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def two_hosts() -> Iterator[tuple[type[Redirector], type[Redirector], str]]:
    other = type("Other", (Redirector,), {"seen": []})
    first = type("First", (Redirector,), {"seen": []})
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) for kind in (first, other)]
    first.elsewhere = f"http://localhost:{servers[1].server_port}"
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield first, other, f"http://127.0.0.1:{servers[0].server_port}"
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("ask", ["for the list", "for a file"])
def test_the_token_goes_to_the_hub_and_to_nobody_it_sends_us_to(
    two_hosts: tuple[type[Redirector], type[Redirector], str], tmp_path: pathlib.Path, ask: str
) -> None:
    first, other, endpoint = two_hosts
    asked = hub.HubClient(settings.Hub(endpoint=endpoint), TOKEN)
    if ask == "for a file":
        asked.fetch(MODEL, COMMIT, CONFIG, tmp_path)
    else:
        with pytest.raises(TryAgain):  # the other host has no list
            asked.list_files(MODEL, "main")
    assert {header for _, header in first.seen} == {f"Bearer {TOKEN}"}
    assert other.seen and {header for _, header in other.seen} == {None}


def test_the_token_is_read_from_its_file(mirror: Mirror, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "HF_TOKEN"
    path.write_text(f"{TOKEN}\n")
    where = settings.Hub(endpoint=mirror.endpoint, token_file=path)
    hub.HubClient(where).list_files(MODEL, "main")
    assert [request["token"] for request in mirror.asked("/revision/")] == [True]


def test_what_is_no_token_is_never_sent(mirror: Mirror, tmp_path: pathlib.Path) -> None:
    path, other = tmp_path / "HF_TOKEN", "-----BEGIN PRIVATE KEY-----"
    path.write_text(other)
    where = settings.Hub(endpoint=mirror.endpoint, token_file=path, token_pattern="hf_[A-Za-z]+")
    with pytest.raises(TryAgain) as caught:
        hub.HubClient(where)
    assert caught.value.reason == "HubUnauthorizedOrNotFound"
    assert "HF_TOKEN holds no hub token" in caught.value.message
    assert other not in caught.value.report()
    assert not mirror.asked("/")


@pytest.mark.parametrize("other", [b"two words", b"a\nb", b"\xff\xfe", "schl\u00fcssel".encode()])
def test_what_no_header_can_hold_is_never_sent(
    mirror: Mirror, tmp_path: pathlib.Path, other: bytes
) -> None:
    path = tmp_path / "HF_TOKEN"
    path.write_bytes(other)
    with pytest.raises(TryAgain, match="HF_TOKEN holds no hub token"):
        hub.HubClient(settings.Hub(endpoint=mirror.endpoint, token_file=path))
    assert not mirror.asked("/")


def test_without_a_token_file_nothing_of_this_machine_is_sent(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    where = settings.Hub(endpoint=mirror.endpoint, token_file=tmp_path / "absent")
    hub.HubClient(where).list_files(MODEL, "main")
    assert [request["token"] for request in mirror.asked("/revision/")] == [False]


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_no_failure_repeats_the_token(
    mirror: Mirror, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    mirror.fail({"match": "/", "status": status, "times": 99})
    with pytest.raises(Failure) as caught:
        hub.HubClient(settings.Hub(endpoint=mirror.endpoint), TOKEN).list_files(MODEL, "main")
    captured = capfd.readouterr()
    assert TOKEN not in caught.value.report() + captured.out + captured.err
