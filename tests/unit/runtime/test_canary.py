"""Nothing of a patient anywhere it may not be, over every outcome of a real server at debug level.

The planted samples come first: a search that finds nothing must be one that can find.
"""

import base64
import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import patient_api
import pytest
from canaries import CONDITION, KEY, MRN, PLACES, QUERY, SECRETS, Evidence, leaks
from raw_http import Answer, chunk, connected, exchange, head

LEAKY = str(pathlib.Path(__file__).parents[2] / "support/leaky_server.py")
JSON = {"Content_Type": "application/json"}
KEYED = JSON | {"X_API_Key": KEY}
EVERY_STATUS = {200, 400, 401, 404, 405, 408, 413, 415, 422, 429, 431, 500, 503}
CROWD = 24
Waiting = concurrent.futures.Future[Answer]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "form",
    [
        pytest.param(str.upper, id="in capitals"),
        pytest.param(lambda text: f'{{"message": "asked about {text} today"}}', id="in a line"),
        pytest.param(lambda text: text.encode().hex(), id="in hexadecimal"),
        *(
            pytest.param(
                lambda text, n=n: base64.b64encode(b"x" * n + text.encode() + b"yz").decode(),
                id=f"in base64, {n} letters in",
            )
            for n in range(4)
        ),
    ],
)
def test_a_secret_is_found_in_whatever_form(secret: str, form: Callable[[str], str]) -> None:
    assert leaks(form(secret)) == {secret}
    assert leaks(form("anything-else-0000")) == set()


class Server:
    """A process whose streams are files, and whose folder is watched."""

    def __init__(self, folder: pathlib.Path, *command: str, **env: str) -> None:
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        self.folder = folder / "watched"
        self.folder.mkdir()
        where = str(self.folder)
        own = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        base = {**own, "HOME": where, "TMPDIR": where}
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *command], env=base | env, cwd=where, stdout=out, stderr=err
            )

    def wait_for(self, url: str) -> None:
        """Return once the URL answers 200."""
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if httpx2.get(url).status_code == 200:
                    return
            assert self.process.poll() is None, self.stdout.read_text() + self.stderr.read_text()
            assert time.monotonic() < end
            time.sleep(0.02)

    def logged(self) -> set[int]:
        """Return the statuses in the log."""
        lines = [json.loads(line) for line in self.stdout.read_text().splitlines()]
        return {line["status"] for line in lines if "status" in line}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def serving(folder: pathlib.Path, *command: str, **env: str) -> Iterator[Server]:
    server = Server(folder, *command, **env)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def post(url: str, body: Any, path: str = "/triage", **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    top = head("POST", path, Content_Length=str(len(data)), **KEYED | headers)
    return exchange(url, [top, data])


def question(**change: Any) -> dict[str, Any]:
    return {"patient_mrn": MRN, "query": QUERY} | change


@pytest.mark.parametrize("place", PLACES)
def test_a_planted_leak_is_found_where_it_is(tmp_path: pathlib.Path, place: str) -> None:
    port = free_port()
    url, evidence = f"http://127.0.0.1:{port}", Evidence()
    with serving(tmp_path, LEAKY, str(port), place) as server:
        server.wait_for(f"{url}/management")
        evidence.add(post(url, question()))
        evidence.management.append(httpx2.get(f"{url}/management").content)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
    assert evidence.find(server.stdout, server.stderr, server.folder) == {place}


class Story:
    """Every outcome there is, asked of one server."""

    def __init__(self, url: str, management: str, api: patient_api.PatientApi) -> None:
        self.url, self.management, self.api = url, management, api
        self.evidence = Evidence()

    def ask(self, *bodies: Any, times: int = 1, **headers: str) -> set[int]:
        """Post bodies so many times; return the statuses."""
        return {
            self.evidence.add(post(self.url, body, **headers)).status
            for body in bodies
            for _ in range(times)
        }

    def send(self, *pieces: bytes, times: int = 1) -> set[int]:
        """Send bytes so many times; return the statuses."""
        found = (self.evidence.add(exchange(self.url, pieces)) for _ in range(times))
        return {answer.status for answer in found}

    def look_at_management(self) -> None:
        """Ask everything the management port has, and what it has not."""
        for path in ("/livez", "/readyz", "/metrics", "/progress", f"/{MRN}?q={QUERY}"):
            reply = httpx2.get(self.management + path, headers={"X-API-Key": KEY})
            self.evidence.management.append(repr(reply.headers).encode() + reply.content)
        reply = httpx2.post(f"{self.management}/verify", json=question(), timeout=20)
        assert reply.status_code == 200
        self.evidence.management.append(reply.content)

    @contextlib.contextmanager
    def crowd(self, size: int) -> Iterator[list[Waiting]]:
        """Have so many clients wait for the patient API at once; they are let go at the end."""
        self.api.released.clear()
        self.api.behaviour = "hangs"
        while self.api.asked.acquire(blocking=False):
            """Forget what was asked before."""
        with concurrent.futures.ThreadPoolExecutor(size) as pool:
            asked = [pool.submit(post, self.url, question()) for _ in range(size)]
            for _ in range(size):
                assert self.api.asked.acquire(timeout=20)
            try:
                yield asked
            finally:
                self.api.behaviour = "answers"
                self.api.released.set()
            for done in asked:
                self.evidence.add(done.result())


def answer_and_refuse(story: Story) -> None:
    """Play what needs no particular patient API."""
    assert story.ask(question(), times=30) == {200}
    assert story.ask(question(), times=15, X_API_Key=f"{KEY}-wrong") == {401}
    assert story.ask(question(), times=15, path=f"/{MRN}/{QUERY}?key={KEY}") == {404}
    assert story.send(head("GET", "/triage", X_API_Key=KEY, X_Who=MRN), times=5) == {405}
    assert story.ask(question(note=QUERY * 8000), times=5) == {413}
    assert story.ask(question(), times=15, Content_Type=f"text/{QUERY}") == {415}
    misfits = (
        question(query=[QUERY]),
        question(patient_mrn={MRN: QUERY}),
        question(patient_mrn=f"{MRN} {QUERY}"),
        question(llm_mode=[QUERY]),
        {MRN: QUERY},
        [MRN, QUERY],
        QUERY,
        json.dumps(question())[:-1].encode(),
        f'{{"{MRN}": {QUERY}}}'.encode(),
        f'{{"patient_mrn": "{MRN}", "query": "{QUERY}\\ud800"}}'.encode(),
    )
    assert story.ask(*misfits, times=4) == {422}
    assert story.ask(b"[" * 40 + QUERY.encode(), times=5) == {400}
    assert story.send(f"{MRN} {QUERY} {KEY}\r\n\r\n".encode(), times=5) == {400}
    assert story.send(head("GET", f"/{MRN * 2000}"), times=3) == {431}
    slow = head("POST", "/triage", Transfer_Encoding="chunked", **KEYED)
    assert story.send(slow, chunk(f'{{"query": "{QUERY}'.encode()), times=2) == {408}


def fail_lookups(story: Story) -> None:
    """Play what a patient API can do, to lookups and to the chat log."""
    outcomes: tuple[tuple[patient_api.Behaviour, int], ...] = (
        ("knows nobody", 404),
        ("fails", 503),
        ("no summary", 503),
        ("redirects", 503),
        ("odd", 500),
    )
    for behaviour, status in outcomes:
        story.api.behaviour = behaviour
        assert story.ask(question(), times=8) == {status}
    story.api.behaviour, story.api.logs = "answers", "fails"
    assert story.ask(question(), times=8) == {200}
    story.api.logs = "answers"


def leave_and_wait(story: Story) -> None:
    """Play clients that leave, an API that does not answer, and more clients than there is room."""
    for cut in (40, 150, None):
        with connected(story.url) as connection:
            data = json.dumps(question()).encode()
            whole = head("POST", "/triage", Content_Length=str(len(data)), **KEYED) + data
            connection.sendall(whole[:cut])
    with story.crowd(1) as (late,):
        assert late.result(20).status == 503, "the API had its time"
    for _ in range(20):
        with story.crowd(CROWD) as asked:
            """All are let go at once."""
        if 429 in {done.result().status for done in asked}:
            return
    raise AssertionError("never more at once than there is room for")


def end(story: Story, server: Server) -> None:
    """Send SIGTERM while clients wait, and ask on while the server drains."""
    with story.crowd(6) as asked:
        server.process.send_signal(signal.SIGTERM)
        while "draining" not in server.stdout.read_text():
            assert server.process.poll() is None
            time.sleep(0.01)
        story.send(head("GET", f"/{MRN}", X_API_Key=KEY), times=5)
    # 503: on a busy machine the lookup's four seconds may be over first.
    assert {done.result().status for done in asked} <= {200, 429, 503}
    assert server.process.wait(30) == 0


def test_no_outcome_leaves_a_trace(tmp_path: pathlib.Path, pod_config: dict[str, Any]) -> None:
    (tmp_path / "keys/api-key").write_text(KEY)
    ports = {"CHAT_API_PORT": str(free_port()), "MANAGEMENT_PORT": str(free_port())}
    url, management = (f"http://127.0.0.1:{port}" for port in ports.values())
    limits = {"drainSeconds": 1, "bodySeconds": 0.3, "requestDeadlineSeconds": 4}
    limits |= {"maxConcurrentRequests": 1, "maxQueuedRequests": 0}
    with patient_api.running(CONDITION) as api:
        context = {"source": "Http", "url": api.url}
        config = json.dumps(pod_config | {"limits": limits, "patientContext": context})
        env = {"CHATMODEL_CONFIG": config, "LOG_LEVEL": "DEBUG", "PYTHONASYNCIODEBUG": "1"}
        env["MOCK_STEP_SECONDS"] = "0.005"  # so that answers can be in each other's way
        command = ("-X", "dev", "-m", "chatmodel_runtime", "serve")
        with serving(tmp_path, *command, **ports, **env) as server:
            server.wait_for(f"{management}/readyz")
            story = Story(url, management, api)
            answer_and_refuse(story)
            story.look_at_management()
            fail_lookups(story)
            leave_and_wait(story)
            end(story, server)
    evidence = story.evidence
    assert len(evidence.statuses) >= 200
    assert set(evidence.statuses) == EVERY_STATUS
    assert server.logged() == EVERY_STATUS
    assert {entry["patient_mrn"] for entry in api.chat_logs} == {MRN}, "the one place for it"
    assert evidence.find(server.stdout, server.stderr, server.folder) == set()
