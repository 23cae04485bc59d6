"""Traces: off unless asked for; and then nothing of a patient in any span, over every outcome."""

import contextlib
import http.server
import json
import logging
import pathlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import httpx2
import pytest
from asgi_calls import Inside, call, serving
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from scripted_engine import ScriptedEngine

import chatmodel_runtime
from chatmodel_runtime import spans, tracing, waiting
from chatmodel_runtime.engines.mock import Behaviour, MockEngine

MRN, QUERY, CLIENT = "MRN-CANARY-4711", "canary-query-0815", "203.0.113.7"
CANARIES = (MRN, QUERY, CLIENT)
LEAVING_HEADERS = {
    "host": f"{QUERY}.example",
    "user-agent": QUERY,
    "x-forwarded-for": CLIENT,
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": f"who={MRN.lower()}",
    "baggage": f"mrn={MRN}",
}
ON = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


def leaks(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary.lower() in text.lower()]


def told(finished: tuple[ReadableSpan, ...]) -> str:
    """Return everything that spans say, as text."""
    states = [span.context.trace_state.to_header() for span in finished if span.context]
    return "\n".join([*(span.to_json() for span in finished), *states])


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@contextlib.asynccontextmanager
async def traced(exporter: InMemorySpanExporter, *engine: Any, **config: Any) -> Any:
    provider = spans.build_provider("triage", exporter, SimpleSpanProcessor)
    telemetry = tracing.Tracing(provider).telemetry
    async with serving(*engine, telemetry=telemetry, **config) as inside:
        yield inside


def question(mrn: Any = "MRN-001", query: Any = QUERY) -> bytes:
    return json.dumps({"patient_mrn": mrn, "query": query}).encode()


def chat(**change: Any) -> bytes:
    messages = [{"role": "user", "content": QUERY}]
    return json.dumps({"model": QUERY, "messages": messages, "user": MRN} | change).encode()


async def ask(inside: Inside, method: str, path: str, body: bytes = b"") -> int:
    query = f"q={QUERY}&mrn={MRN}"
    return (
        await call(inside.public, method, path, body, query=query, headers=LEAVING_HEADERS)
    ).status


async def test_no_outcome_leaves_anything_of_a_patient_in_a_span(
    exporter: InMemorySpanExporter,
) -> None:
    async with traced(exporter) as inside:
        statuses = [
            await ask(inside, "POST", "/triage", question()),
            await ask(inside, "POST", "/triage", question(MRN)),
            await ask(inside, "POST", "/triage", question(MRN, [QUERY])),
            await ask(inside, "POST", "/triage", f"{{{MRN}".encode()),
            await ask(inside, "GET", f"/{MRN}/{QUERY}"),
            await ask(inside, "POST", f"/triage/{MRN}"),
            await ask(inside, "GET", "/triage"),
            await ask(inside, MRN, "/triage"),
            await ask(inside, "POST", "/v1/chat/completions", chat()),
            await ask(inside, "POST", "/v1/chat/completions", chat(stream=True)),
            await ask(inside, "POST", "/v1/chat/completions", chat(n=2)),
        ]
    assert statuses == [200, 404, 422, 422, 404, 404, 405, 405, 200, 200, 422]
    finished = exporter.get_finished_spans()
    assert len(finished) == len(statuses), "one for each request and no more"
    assert leaks(told(finished)) == []
    assert {span.name for span in finished} == {
        "POST /triage",
        "GET /triage",
        "_OTHER /triage",
        "GET",
        "POST",
        "POST /v1/chat/completions",
    }
    parents = {span.parent.trace_id for span in finished if span.parent}
    assert parents == {0x4BF92F3577B34DA6A3CE929D0E0E4736}, "a caller's trace goes on"


@pytest.mark.parametrize("fault", ["dies", "no number", "empty", "hangs"])
async def test_no_failure_of_the_engine_does_either(
    exporter: InMemorySpanExporter, fault: Any
) -> None:
    limits = {"firstTokenDeadlineSeconds": 0.05}
    engine = MockEngine(Behaviour(fault=fault))
    async with traced(exporter, engine, limits=limits) as inside:
        status = 504 if fault == "hangs" else 500
        assert await ask(inside, "POST", "/triage", question()) == status
    (span,) = exporter.get_finished_spans()
    assert span.attributes and span.attributes["http.response.status_code"] == status
    assert not span.status.is_ok and span.status.description is None
    assert leaks(told((span,))) == []


async def test_an_error_that_nobody_caught_does_not_either(
    exporter: InMemorySpanExporter,
) -> None:
    async with traced(exporter) as inside:

        async def break_off() -> None:
            raise RuntimeError(f"{MRN} asked {QUERY}")

        inside.public.add_api_route("/broken", break_off)
        with pytest.raises(RuntimeError):
            await ask(inside, "GET", "/broken")
    (span,) = exporter.get_finished_spans()
    assert span.attributes and span.attributes["error.type"] == "RuntimeError"
    assert span.events == ()
    assert leaks(told((span,))) == []


async def test_a_client_that_leaves_does_not_either(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "ASK_SECONDS", 0.01)
    engine = ScriptedEngine()
    engine.gate.clear()
    async with traced(exporter, engine) as inside:
        reply = await call(inside.public, "POST", "/triage", question(), stays=False)
    assert reply.status == 499
    assert leaks(told(exporter.get_finished_spans())) == []


async def test_without_the_short_list_the_same_requests_leak(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted sample: the scanner sees what FastAPI would have told."""
    monkeypatch.setattr(spans, "OnlyKept", lambda inner: inner)
    async with traced(exporter) as inside:
        await ask(inside, "GET", f"/{MRN}/x")
    assert leaks(told(exporter.get_finished_spans())) == [MRN, QUERY]


@pytest.mark.parametrize(
    ("env", "asked"),
    [
        pytest.param({}, False, id="nothing is set"),
        pytest.param(ON, True, id="a collector"),
        pytest.param({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True, id="for traces"),
        pytest.param({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x"}, False, id="for metrics"),
        pytest.param(ON | {"OTEL_SDK_DISABLED": "true"}, False, id="all is off"),
        pytest.param(ON | {"OTEL_TRACES_EXPORTER": "none"}, False, id="traces are off"),
    ],
)
def test_tracing_is_asked_for_by_the_standard_variables(env: dict[str, str], asked: bool) -> None:
    assert tracing.is_asked_for(env) is asked


@pytest.mark.parametrize(
    ("env", "missing"),
    [
        pytest.param(ON | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False, id="another protocol"),
        pytest.param(ON, True, id="the extra is not installed"),
    ],
)
def test_what_cannot_be_traced_is_said_and_served_all_the_same(
    env: dict[str, str],
    missing: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if missing:
        monkeypatch.delattr(chatmodel_runtime, "spans")
        monkeypatch.setitem(sys.modules, "chatmodel_runtime.spans", None)
    with caplog.at_level(logging.WARNING):
        assert tracing.choose(env, "triage").telemetry == tracing.OFF
    assert "not traced" in caplog.text


@pytest.mark.parametrize(("wanted", "found"), [(None, "triage"), ("clinic", "clinic")])
def test_the_service_has_the_chatmodels_name_unless_the_environment_says_another(
    wanted: str | None,
    found: str,
    exporter: InMemorySpanExporter,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)
    if wanted:
        monkeypatch.setenv("OTEL_SERVICE_NAME", wanted)
    provider = spans.build_provider("triage", exporter, SimpleSpanProcessor)
    assert provider.resource.attributes["service.name"] == found


def test_the_sdk_is_not_imported_before_it_is_asked_for() -> None:
    script = (
        "import sys, chatmodel_runtime.commands;"
        "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exp'))"
        " or m == 'chatmodel_runtime.spans'], 'opentelemetry.trace' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert found == "[] True\n", "the second: modules are seen"


class Runtime(Protocol):
    """A process of conftest.py."""

    process: Any
    public: str

    def said(self) -> str: ...


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    bodies: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            """Stay silent."""

        def do_POST(self) -> None:
            bodies.append(self.path.encode() + self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    server.server_close()


def test_a_process_sends_its_last_spans_before_it_ends(
    start: Callable[..., Runtime],
    pod_config: dict[str, Any],
    collector: tuple[str, list[bytes]],
    tmp_path: pathlib.Path,
) -> None:
    url, bodies = collector
    (tmp_path / "keys/api-key").write_text("right")
    runtime = start(CHATMODEL_CONFIG=json.dumps(pod_config), OTEL_EXPORTER_OTLP_ENDPOINT=url)
    body = {"patient_mrn": MRN, "query": QUERY}
    asked = f"{runtime.public}/triage?q={QUERY}"
    assert httpx2.post(asked, json=body, headers={"X-API-Key": "right"}).status_code == 404
    runtime.process.terminate()
    assert runtime.process.wait(20) == 0
    sent = b"".join(bodies)
    assert b"/v1/traces" in sent and b"POST /triage" in sent and b"service.name" in sent
    assert leaks(sent.decode("latin-1")) == []
    assert leaks(runtime.said()) == []
