"""The background client must see every failure, or its zero means nothing."""

import contextlib
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import traffic

SCRIPT = pathlib.Path(traffic.__file__)


class Server(http.server.ThreadingHTTPServer):
    """Answers as `behave` says, by the number of the request; counts connections and keys."""

    daemon_threads = True

    def __init__(self, behave: Callable[[int], str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave = behave
        self.keys: set[str | None] = set()
        self.connections = self.asked = 0
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            number, self.server.asked = self.server.asked, self.server.asked + 1
        self.server.keys.add(self.headers.get("Authorization"))
        word = self.server.behave(number)
        if word == "hang up":
            self.close_connection = True
            return
        body = json.dumps({"revision": word, "path": self.path}).encode()
        self.send_response(int(word) if word.isdigit() else 200)
        self.send_header("Content-Length", str(len(body)))
        if word == "last":
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"x" * len(body) if word == "garbled" else body)


@contextlib.contextmanager
def serving(behave: Callable[[int], str]) -> Iterator[Server]:
    with Server(behave) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def wait_until(is_true: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.005)


def run(server: Server, requests: int, **options: Any) -> dict[str, Any]:
    asked = traffic.Traffic(server.url, rate=400, timeout=5, **options)
    with asked:
        wait_until(lambda: asked.summary()["requests"] >= requests)
    return asked.summary()


def test_a_switch_of_revisions_is_seen_in_order() -> None:
    with serving(lambda number: "triage-1" if number < 10 else "triage-2") as server:
        seen = run(server, 30)
    assert list(seen["revisions"]) == ["triage-1", "triage-2"]
    first, second = seen["revisions"].values()
    assert first["requests"] == 10
    assert first["firstSeen"] <= second["firstSeen"]
    assert (seen["failed"], seen["failures"]) == (0, {})
    assert seen["succeeded"] == seen["requests"] == server.asked


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        pytest.param("503", "503", id="an error status"),
        pytest.param("401", "401", id="a wrong key"),
        pytest.param("hang up", "RemoteDisconnected", id="a connection that ends unanswered"),
        pytest.param("garbled", "no revision in the answer", id="an answer that is none"),
    ],
)
def test_one_failure_among_many_answers_is_counted(word: str, reason: str) -> None:
    with serving(lambda number: word if number == 7 else "triage-1") as server:
        seen = run(server, 20)
    assert (seen["failed"], seen["failures"]) == (1, {reason: 1})
    assert sum(failed for _, _, failed in seen["perSecond"]) == 1
    assert sum(succeeded for _, succeeded, _ in seen["perSecond"]) == seen["succeeded"]


def test_a_server_that_is_not_there_is_a_failure() -> None:
    with serving(lambda _: "triage-1") as server:
        pass
    seen = run(server, 5)
    assert seen["succeeded"] == 0
    assert set(seen["failures"]) == {"ConnectionRefusedError"}


def test_a_server_that_is_not_there_yet_is_waited_for_when_asked() -> None:
    with serving(lambda _: "triage-1") as server:
        port = server.server_address[1]
    client = traffic.Traffic(f"http://127.0.0.1:{port}")
    assert client.can_connect(0)
    assert not client.can_connect(0.2)
    with socket.socket() as later:
        later.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        later.bind(("127.0.0.1", port))
        listening = threading.Timer(0.3, later.listen)
        listening.start()
        assert client.can_connect(30)
        assert listening.finished.is_set()


def test_an_answer_that_ends_the_connection_is_no_failure() -> None:
    with serving(lambda _: "last") as server:
        seen = run(server, 20)
    assert seen["failed"] == 0
    assert server.connections == seen["requests"]


def test_half_of_the_workers_keep_their_connection() -> None:
    with serving(lambda _: "triage-1") as server:
        seen = run(server, 40, workers=2)
    # One connection of the first worker, one for each request of the second.
    assert server.connections < seen["requests"]
    assert server.connections > seen["requests"] / 4


def test_the_rate_is_kept() -> None:
    with serving(lambda _: "triage-1") as server:
        asked = traffic.Traffic(server.url, rate=50, workers=5)
        with asked:
            wait_until(lambda: asked.summary()["requests"] >= 25)
        seen = asked.summary()
    assert seen["requests"] <= 50 * seen["seconds"] + 5


def test_a_time_without_answers_is_measured() -> None:
    pause = threading.Event()

    def behave(number: int) -> str:
        if number == 5:
            pause.wait(0.3)
        return "triage-1"

    with serving(behave) as server:
        seen = run(server, 10, workers=1)
    assert seen["longestGapSeconds"] >= 0.3
    assert seen["answerSeconds"]["max"] >= 0.3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_ends_at_a_signal_with_one_json_object(number: signal.Signals) -> None:
    command = [sys.executable, str(SCRIPT), "--rate", "100"]
    env = {**os.environ, traffic.ENV_KEY: "s3cret"}
    with serving(lambda _: "triage-1") as server:
        with subprocess.Popen([*command, server.url], env=env, stdout=subprocess.PIPE) as process:
            wait_until(lambda: server.asked >= 5)
            process.send_signal(number)
            text, _ = process.communicate(timeout=10)
    seen = json.loads(text)
    assert process.returncode == 0
    assert seen["failed"] == 0 and seen["succeeded"] == server.asked
    assert server.keys == {"Bearer s3cret"} and b"s3cret" not in text


def test_the_program_takes_its_key_from_a_file_and_its_code_from_standard_input(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "api-key").write_text("s3cret\n")
    command = [sys.executable, "-", "--seconds", "0.2", "--key-file", str(tmp_path / "api-key")]
    with serving(lambda _: "triage-1") as server:
        done = subprocess.run(
            [*command, server.url], input=SCRIPT.read_bytes(), capture_output=True, check=True
        )
    assert json.loads(done.stdout)["failed"] == 0
    assert server.keys == {"Bearer s3cret"}


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not an http URL"):
        traffic.Traffic("triage:8002")
