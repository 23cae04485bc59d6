"""How connections end: with their age, and with the process."""

import contextlib
import http.client
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any, Protocol

import httpx2
from kube import wait_for

from chatmodel_runtime import model_manager
from chatmodel_runtime.draining import LEAVING_SECONDS
from chatmodel_runtime.errors import EXIT_TERMINATED

BODY = {"patient_mrn": "MRN-001", "query": "What are my current medications?"}
KEY = {"X-API-Key": "right"}


class Runtime(Protocol):
    """A process of conftest.py."""

    process: Any
    public: str
    management: str

    def said(self) -> str: ...


class Start(Protocol):
    """Starts a process of conftest.py."""

    def __call__(self, *, ready: bool = True, **env: str) -> Runtime: ...


def connect(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=10)


def get(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    connection.request("GET", "/health")
    response = connection.getresponse()
    response.read()
    return response


def test_a_connection_ends_with_an_answer_once_it_is_old(
    start: Start, pod_config: dict[str, Any]
) -> None:
    limits = {"maxConnectionAgeSeconds": 0.5}
    runtime = start(CHATMODEL_CONFIG=json.dumps(pod_config | {"limits": limits}))
    begun = time.monotonic()
    with contextlib.closing(connect(runtime.public)) as connection:
        assert get(connection).headers["connection"] is None
        while get(connection).headers["connection"] != "close":
            assert time.monotonic() - begun < 5
        assert 0.3 < time.monotonic() - begun < 1.5


def test_after_sigterm_answers_go_on_for_the_drain_window(
    start: Start, pod_config: dict[str, Any]
) -> None:
    runtime = start(CHATMODEL_CONFIG=json.dumps(pod_config | {"limits": {"drainSeconds": 1}}))
    begun = time.monotonic()
    runtime.process.send_signal(signal.SIGTERM)
    while "draining" not in runtime.said():
        assert time.monotonic() - begun < 1
    with contextlib.closing(connect(runtime.public)) as connection:
        assert get(connection).headers["connection"] == "close"
    answer = httpx2.post(f"{runtime.public}/triage", json=BODY, headers=KEY)
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert httpx2.get(f"{runtime.management}/livez").status_code == 200
    assert runtime.process.wait(10) == 0
    assert 0.9 < time.monotonic() - begun < 5


def test_a_server_that_drains_stays_ready_until_shortly_before_its_end(
    start: Start, pod_config: dict[str, Any]
) -> None:
    seconds = LEAVING_SECONDS + 1
    runtime = start(CHATMODEL_CONFIG=json.dumps(pod_config | {"limits": {"drainSeconds": seconds}}))
    runtime.process.send_signal(signal.SIGTERM)
    seen = []
    while runtime.process.poll() is None:
        with contextlib.suppress(httpx2.TransportError):
            ready = httpx2.get(f"{runtime.management}/readyz").status_code
            draining = "draining" in runtime.said()
            answered = httpx2.post(f"{runtime.public}/triage", json=BODY, headers=KEY).status_code
            if draining and (ready, answered) not in seen:
                seen.append((ready, answered))
        time.sleep(0.05)
    assert seen == [(200, 200), (503, 200)]


def test_a_process_ends_without_taking_itself_apart_and_all_it_said_is_there() -> None:
    code = (
        "import atexit, sys, time\natexit.register(time.sleep, 60)\n"
        "from chatmodel_runtime import __main__ as main\nsys.argv[1:] = ['serve']\nmain.main()\n"
    )
    env = {**os.environ, "CHATMODEL_CONFIG": "none"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, timeout=30, check=False
    )
    assert (done.returncode, json.loads(done.stdout)["level"]) == (64, "error")


def test_a_process_that_still_imports_ends_at_once() -> None:
    code = (
        "import sys, time\nclass Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'uvicorn': print('importing', flush=True); time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "from chatmodel_runtime import __main__ as main\nsys.argv[1:] = ['serve']\nmain.main()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"importing\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == EXIT_TERMINATED


def test_a_process_that_still_loads_ends_at_once(
    start: Start, pod_config: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.safetensors").touch()
    os.truncate(model / "model.safetensors", 2**40)  # whose hash takes minutes, and no room
    entry = {"size": 2**40, "sha256": ""}
    manifest = model / model_manager.MANIFEST
    manifest.write_text(json.dumps({"files": {"model.safetensors": entry}}))
    (model / model_manager.COMPLETE).write_text(model_manager.hash_file(manifest))
    more = {"modelDir": str(model), "limits": {"drainSeconds": 60}}
    runtime = start(ready=False, CHATMODEL_CONFIG=json.dumps(pod_config | more))

    def loads() -> bool:
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(f"{runtime.management}/readyz").status_code == 503
        return False

    wait_for(loads, "the runtime to load")
    runtime.process.send_signal(signal.SIGTERM)
    assert runtime.process.wait(30) == EXIT_TERMINATED
    assert "told to end while loading" in runtime.said()


def test_what_runs_at_sigterm_is_finished(start: Start, pod_config: dict[str, Any]) -> None:
    with slow_patient_api(1.0) as url:
        context = {"patientContext": {"source": "Http", "url": url}}
        runtime = start(CHATMODEL_CONFIG=json.dumps(pod_config | context))
        statuses: list[int] = []

        def ask() -> None:
            answer = httpx2.post(f"{runtime.public}/triage", json=BODY, headers=KEY, timeout=10)
            statuses.append(answer.status_code)

        thread = threading.Thread(target=ask)
        thread.start()
        assert SlowPatients.asked.wait(10)
        runtime.process.send_signal(signal.SIGTERM)
        thread.join(10)
        assert runtime.process.wait(10) == 0
    assert statuses == [200]


class SlowPatients(http.server.BaseHTTPRequestHandler):
    """A patient API that takes its time."""

    asked = threading.Event()
    seconds = 0.0

    def log_message(self, *args: Any) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        self.asked.set()
        time.sleep(self.seconds)
        body = b'{"patient": {}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def slow_patient_api(seconds: float) -> Iterator[str]:
    SlowPatients.seconds = seconds
    SlowPatients.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowPatients)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
