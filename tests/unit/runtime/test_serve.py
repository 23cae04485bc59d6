"""The mock served as a real process: what clients, probes and the operator see."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any, Protocol

import httpx2
import pytest

BODY = {"patient_mrn": "MRN-001", "query": "What are my current medications?"}
KEY = {"X-API-Key": "right"}
SEVEN = (
    "trace_id",
    "patient_mrn",
    "query",
    "llm_mode",
    "response",
    "inference_time_ms",
    "conversation_id",
)


class Runtime(Protocol):
    """A process of conftest.py."""

    process: Any
    public: str
    management: str

    def said(self) -> str: ...
    def lines(self) -> list[dict[str, Any]]: ...


class Start(Protocol):
    """Starts a process of conftest.py."""

    def __call__(self, *, ready: bool = True, **env: str) -> Runtime: ...


@pytest.fixture(scope="module")
def runtime(start_once: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    path = tmp_path_factory.mktemp("keys") / "api-key"
    path.write_text("right")
    # 0.0.0.0 with keys; loopback is part of it.
    yield start_once(LLM_MODE="mock", PATIENT_CONTEXT="demo", API_KEYS_FILE=str(path))


@pytest.fixture
def client(runtime: Runtime) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=runtime.public, headers=KEY) as made:
        yield made


def test_the_origins_seven_fields_come_first_and_ours_after(client: httpx2.Client) -> None:
    response = client.post("/triage", json=BODY)
    answer = response.json()
    assert (response.status_code, tuple(answer)[:7]) == (200, SEVEN)
    assert (answer["patient_mrn"], answer["query"]) == ("MRN-001", BODY["query"])
    assert (answer["llm_mode"], answer["conversation_id"]) == ("mock", None)
    assert answer["inference_time_ms"] >= 0
    assert (answer["urgency"], answer["finish_reason"]) == ("unknown", "stop")
    assert (answer["degraded"], answer["thinking_truncated"]) == (False, False)
    assert (answer["model"], answer["revision"]) == ("mock", "standalone")
    assert min(answer["usage"].values()) > 0
    assert "not a medical device" in answer["safety_note"]


@pytest.mark.parametrize("mrn", ["MRN-001", "P000123"])
def test_the_mock_quotes_the_demo_patient_and_says_that_it_is_a_mock(
    client: httpx2.Client, mrn: str
) -> None:
    answer = client.post("/triage", json=BODY | {"patient_mrn": mrn}).json()["response"]
    assert answer.startswith("[mock]")
    assert "lisinopril 10 mg" in answer and "metformin 500 mg" in answer
    assert "amoxicillin" not in answer


def test_the_same_question_has_the_same_answer(client: httpx2.Client) -> None:
    assert len({client.post("/triage", json=BODY).json()["response"] for _ in range(3)}) == 1


def test_another_question_has_another_answer(client: httpx2.Client) -> None:
    queries = ("What are my medications?", "What am I allergic to?")
    answers = {client.post("/triage", json=BODY | {"query": q}).json()["response"] for q in queries}
    assert len(answers) == 2


def test_a_red_flag_raises_urgency(client: httpx2.Client) -> None:
    answer = client.post("/triage", json=BODY | {"query": "I have crushing chest pain"}).json()
    assert answer["urgency"] == "emergency"


def test_the_mode_of_a_request_is_ignored(client: httpx2.Client) -> None:
    assert client.post("/triage", json=BODY | {"llm_mode": "qwen"}).json()["llm_mode"] == "mock"


def test_an_unknown_patient_is_a_404_as_the_origin_words_it(client: httpx2.Client) -> None:
    response = client.post("/triage", json=BODY | {"patient_mrn": "MRN-404"})
    detail = response.json()["detail"]
    assert (response.status_code, set(detail)) == (404, {"error", "trace_id", "patient_mrn"})
    assert (detail["error"], detail["patient_mrn"]) == ("Patient not found", "MRN-404")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"patient_mrn": 17, "query": "canary-4711"}', id="a number for a text"),
        pytest.param('{"query": "canary-4711"}', id="a field is missing"),
        pytest.param('{"patient_mrn": "canary-4711", "query": ""}', id="an empty question"),
        pytest.param(json.dumps(BODY | {"query": "canary-4711" * 800}), id="a very long question"),
        pytest.param('["canary-4711"]', id="a list"),
        pytest.param('"canary-4711"', id="a word"),
        pytest.param('{"canary-4711": ', id="no JSON"),
        pytest.param('{"patient_mrn": "a", "query": "canary-4711\\ud800"}', id="half a letter"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_without_repeating_it(
    client: httpx2.Client, body: str
) -> None:
    headers = {"content-type": "application/json"}
    response = client.post("/triage", content=body, headers=headers)
    assert response.status_code == 422
    assert "canary-4711" not in response.text
    assert response.json()["trace_id"]


@pytest.mark.parametrize("mrn", ["..", "a/b", "a b", "x" * 65, "<script>"])
def test_a_number_that_cannot_be_one_is_refused(client: httpx2.Client, mrn: str) -> None:
    assert client.post("/triage", json=BODY | {"patient_mrn": mrn}).status_code == 422


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("POST", "/triage"), ("GET", "/docs"), ("GET", "/nowhere"), ("GET", "/health/")],
)
@pytest.mark.parametrize("key", [None, "wrong"])
def test_without_a_key_everything_but_the_probes_is_refused(
    runtime: Runtime, method: str, path: str, key: str | None
) -> None:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    response = httpx2.request(method, runtime.public + path, headers=headers)
    assert response.status_code == 401
    assert set(response.json()["detail"]) == {"error", "trace_id"}


def test_probes_of_the_origin_need_no_key(runtime: Runtime) -> None:
    health = httpx2.get(f"{runtime.public}/health")
    assert health.json() == {"status": "ok", "service": "chat-api", "version": "0.1.0"}
    ready = httpx2.get(f"{runtime.public}/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")


def test_the_root_says_what_this_is(client: httpx2.Client) -> None:
    assert {"service", "version", "description", "default_llm_mode"} <= set(client.get("/").json())


def test_neither_management_nor_a_description_is_on_the_public_port(client: httpx2.Client) -> None:
    for path in ("/livez", "/readyz", "/progress", "/metrics", "/docs", "/openapi.json", "/redoc"):
        assert client.get(path).status_code == 404
    assert client.post("/verify").status_code == 404


def test_management_says_that_it_lives_and_is_ready(runtime: Runtime) -> None:
    for path in ("/livez", "/readyz"):
        assert httpx2.get(runtime.management + path).status_code == 200


def test_verification_says_who_answered(runtime: Runtime) -> None:
    body = httpx2.post(f"{runtime.management}/verify").json()
    assert body.pop("seconds") >= 0 and 0 < body.pop("tokens") <= 24
    assert body == {
        "ok": True,
        "chatModel": "standalone",
        "revision": "standalone",
        "mode": "mock",
        "modelID": None,
        "commit": None,
        "engine": "Mock",
        "cases": 1,
    }


def libraries(runtime: Runtime) -> str:
    return pathlib.Path(f"/proc/{runtime.process.pid}/maps").read_text()


def test_the_mock_imports_no_engine_library(runtime: Runtime) -> None:
    loaded = libraries(runtime)
    assert "pydantic_core" in loaded, "the planted sample: libraries are seen here"
    assert "torch" not in loaded and "tokenizers" not in loaded


def test_requests_are_parsed_by_httptools(runtime: Runtime) -> None:
    assert "httptools" in libraries(runtime)


def test_the_loop_is_uvloop(runtime: Runtime) -> None:
    assert "uvloop" in libraries(runtime)
