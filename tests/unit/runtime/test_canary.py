"""Nothing of a patient in any log, over every outcome; and a planted leak that must be found."""

import contextlib
import http.server
import json
import pathlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import httpx2
import pytest

MRN, QUERY, KEY = "MRN-CANARY-4711", "canary-query-0815", "canary-key-2342"
HEADERS = {"X-API-Key": KEY}
SECRETS = (MRN, QUERY, KEY, "lisinopril")


class Runtime(Protocol):
    """A process of conftest.py."""

    process: Any
    public: str
    management: str

    def said(self) -> str: ...
    def lines(self) -> list[dict[str, Any]]: ...


Start = Callable[..., Runtime]


def leaks(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret.lower() in text.lower()]


def ask(runtime: Runtime, *, key: str = KEY, **body: Any) -> int:
    sent = {"patient_mrn": MRN, "query": QUERY} | body
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.post(f"{runtime.public}/triage", json=sent, headers=headers).status_code


@pytest.fixture
def config(pod_config: dict[str, Any], tmp_path: pathlib.Path) -> dict[str, Any]:
    (tmp_path / "keys/api-key").write_text(KEY)
    return pod_config


def start_with(start: Start, config: dict[str, Any], **change: Any) -> Runtime:
    return start(CHATMODEL_CONFIG=json.dumps(config | change), PYTHONASYNCIODEBUG="1")


@pytest.mark.parametrize("planted", SECRETS)
def test_a_planted_leak_is_found(planted: str) -> None:
    assert leaks(f'{{"message": "asked about {planted.upper()} today"}}') == [planted]


def test_no_outcome_with_demo_patients_leaves_a_trace(start: Start, config: dict[str, Any]) -> None:
    runtime = start_with(start, config)
    outcomes = [
        ask(runtime, patient_mrn="MRN-001"),
        ask(runtime),
        ask(runtime, key="wrong"),
        ask(runtime, query=["canary-query-0815"]),
        httpx2.get(f"{runtime.public}/{MRN}?q={QUERY}", headers=HEADERS).status_code,
        httpx2.get(f"{runtime.management}/{MRN}?q={QUERY}").status_code,
    ]
    assert outcomes == [200, 404, 401, 422, 404, 404]
    broken = socket.create_connection(("127.0.0.1", httpx2.URL(runtime.public).port or 0))
    broken.sendall(f"{MRN} {QUERY} nonsense\r\n\r\n".encode())
    assert b"400" in broken.recv(1000)
    broken.close()
    runtime.process.terminate()
    assert runtime.process.wait(20) == 0
    assert {200, 404} <= {line.get("status") for line in runtime.lines()}
    assert leaks(runtime.said()) == []


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        pytest.param(200, b'{"patient": {"conditions": [17]}}', 500, id="a shape we cannot read"),
        pytest.param(200, MRN.encode(), 503, id="no JSON"),
        pytest.param(500, MRN.encode(), 503, id="an error"),
        pytest.param(302, b"", 503, id="a redirect"),
    ],
)
def test_no_failure_of_the_patient_api_leaves_a_trace(
    start: Start, config: dict[str, Any], status: int, body: bytes, outcome: int
) -> None:
    with answering(status, body) as url:
        runtime = start_with(start, config, patientContext={"source": "Http", "url": url})
        assert ask(runtime) == outcome
    assert ask(runtime) == 503, "nobody listens there any more"
    runtime.process.terminate()
    assert runtime.process.wait(20) == 0
    assert outcome in {line.get("status") for line in runtime.lines()}
    assert leaks(runtime.said()) == []


@contextlib.contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Serve one answer to everything; yields the URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Stay silent."""

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", f"http://127.0.0.1:9/{MRN}")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
