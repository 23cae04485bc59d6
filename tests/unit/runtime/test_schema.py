"""The public API keeps what its own description says, for bodies made from that description."""

import collections
from collections.abc import Iterator
from typing import Any, Protocol

import httpx2
import hypothesis
import pytest
import schemathesis
from schemathesis import checks

CASES = 150  # of each operation and kind
NEVER = {500, 502, 504}


class Runtime(Protocol):
    """A process of conftest.py."""

    public: str

    def said(self) -> str: ...


class Start(Protocol):
    """Starts a process of conftest.py."""

    def __call__(self, *, ready: bool = True, **env: str) -> Runtime: ...


@pytest.fixture(scope="module")
def runtime(start_once: Start) -> Iterator[Runtime]:
    yield start_once(LLM_MODE="mock", PATIENT_CONTEXT="demo", DEVELOPMENT="1")


@pytest.fixture(scope="module")
def schema(runtime: Runtime) -> Any:
    return schemathesis.openapi.from_url(f"{runtime.public}/openapi.json")


def operations(schema: Any) -> dict[str, Any]:
    found = (result.ok() for result in schema.get_all_operations())
    return {operation.label: operation for operation in found}


def test_everything_public_is_described(schema: Any) -> None:
    assert {"GET /", "GET /health", "GET /ready", "POST /triage"} <= set(operations(schema))


def ask_for(operation: Any, mode: schemathesis.GenerationMode) -> collections.Counter[int]:
    """Ask one operation as often as CASES; return how often it gave which status."""
    statuses: collections.Counter[int] = collections.Counter()

    @hypothesis.settings(
        max_examples=CASES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        # Which statuses refuse is asserted below; the check knows no 413 and 415.
        response = case.call_and_validate(excluded_checks=[checks.negative_data_rejection])
        statuses[response.status_code] += 1

    ask()
    return statuses


def test_no_case_that_fits_the_description_fails(runtime: Runtime, schema: Any) -> None:
    for label, operation in operations(schema).items():
        statuses = ask_for(operation, schemathesis.GenerationMode.POSITIVE)
        assert statuses and not set(statuses) & NEVER, label
    assert httpx2.get(f"{runtime.public}/health").status_code == 200
    assert "Traceback" not in runtime.said()


def test_no_case_that_does_not_fit_is_answered(runtime: Runtime, schema: Any) -> None:
    triage = operations(schema)["POST /triage"]
    statuses = ask_for(triage, schemathesis.GenerationMode.NEGATIVE)
    assert statuses and set(statuses) <= {400, 413, 415, 422}
    assert httpx2.get(f"{runtime.public}/health").status_code == 200
