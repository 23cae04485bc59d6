"""Answers and their chat log, seen from both ends of a real server."""

import json
import signal
import uuid
from collections.abc import Iterator
from typing import Any, Protocol

import httpx2
import patient_api
import pytest

BODY = {"patient_mrn": "P000123", "query": "How am I?"}
KEY = {"X-API-Key": "right"}


class Runtime(Protocol):
    """A process of conftest.py."""

    process: Any
    public: str

    def said(self) -> str: ...
    def lines(self) -> list[dict[str, Any]]: ...


class Start(Protocol):
    """Starts a process of conftest.py."""

    def __call__(self, *, ready: bool = True, **env: str) -> Runtime: ...


@pytest.fixture
def api() -> Iterator[patient_api.PatientApi]:
    with patient_api.running() as made:
        yield made


@pytest.fixture
def runtime(start: Start, pod_config: dict[str, Any], api: patient_api.PatientApi) -> Runtime:
    context = {"patientContext": {"source": "Http", "url": api.url}}
    return start(CHATMODEL_CONFIG=json.dumps(pod_config | context))


def ask(runtime: Runtime) -> dict[str, Any]:
    reply = httpx2.post(f"{runtime.public}/triage", json=BODY, headers=KEY, timeout=5)
    assert reply.status_code == 200
    answer = reply.json()
    assert isinstance(answer, dict)
    return answer


def end(runtime: Runtime) -> None:
    runtime.process.send_signal(signal.SIGTERM)
    assert runtime.process.wait(20) == 0


def test_every_answer_is_in_the_chat_log_under_its_conversation(
    runtime: Runtime, api: patient_api.PatientApi
) -> None:
    answers = [ask(runtime) for _ in range(20)]
    end(runtime)
    logged = {entry["conversation_id"]: entry for entry in api.chat_logs}
    assert len(logged) == 20
    for answer in answers:
        assert uuid.UUID(answer["conversation_id"]).version == 4
        entry = logged[answer["conversation_id"]]
        assert (entry["trace_id"], entry["patient_mrn"]) == (answer["trace_id"], "P000123")
        question, said = entry["messages"]
        assert (question["content"], said["content"]) == (answer["query"], answer["response"])
        assert (said["model_name"], said["latency_ms"]) == ("mock", answer["inference_time_ms"])
        assert question["timestamp"] <= said["timestamp"]


def test_no_answer_waits_for_the_chat_log(runtime: Runtime, api: patient_api.PatientApi) -> None:
    api.logs = "hangs"
    # None of these could come while one of the log's posts, which take 30 s here, was waited for.
    assert len([ask(runtime) for _ in range(20)]) == 20
    assert api.chat_logs == []
    api.released.set()
    end(runtime)
    assert len(api.chat_logs) == 20, "what was left was sent at the end"


def test_a_chat_log_that_fails_costs_no_answer_and_one_line(
    runtime: Runtime, api: patient_api.PatientApi
) -> None:
    api.logs = "fails"
    assert all(ask(runtime)["conversation_id"] for _ in range(5))
    end(runtime)
    (line,) = [x for x in runtime.lines() if x["message"] == "chat log entry dropped"]
    assert (line["reason"], line["level"]) == ("failed", "warning")
    assert "chat-logs" not in runtime.said() and "P000123" not in runtime.said()


def test_only_answers_are_logged(runtime: Runtime, api: patient_api.PatientApi) -> None:
    api.behaviour = "knows nobody"
    reply = httpx2.post(f"{runtime.public}/triage", json=BODY, headers=KEY)
    assert reply.status_code == 404
    end(runtime)
    assert api.chat_logs == []
