"""Signs that are on no pod: what admission and verification say; and the inspection's report."""

import json

import pytest
from pictures import COMMIT, INSPECTION, Body, at, make_revision, raw_container, terminated
from signs import CANDIDATE, inspect, report, see, serve, sign_of, stage

from chatmodel_operator import failures
from chatmodel_operator.api.reasons import Reason


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        pytest.param(
            'pods "triage-x" is forbidden: exceeded quota: clinic, requested: pods=1',
            Reason.QuotaExceeded,
            id="the quota is used up",
        ),
        pytest.param(
            'pods "triage-x" is forbidden: violates PodSecurity "restricted:latest"',
            Reason.AdmissionDenied,
            id="pod security says no",
        ),
    ],
)
def test_a_refused_pod_is_not_the_models_fault(refused: str, reason: Reason) -> None:
    sign = sign_of(refused=refused)
    assert sign == failures.Sign(reason, refused)
    assert not sign.is_bad


@pytest.mark.parametrize(
    ("verification", "reason", "is_bad"),
    [
        pytest.param(
            {"failures": 3, "reason": "VerificationFailed", "message": "empty"},
            Reason.VerificationFailed,
            True,
            id="three wrong answers running",
        ),
        pytest.param(
            {"failures": 0, "reason": "VerificationUnreachable", "message": "time-out"},
            Reason.VerificationUnreachable,
            False,
            id="the pod cannot be asked",
        ),
        pytest.param(
            {"failures": 2, "reason": "VerificationFailed", "message": "empty"},
            None,
            False,
            id="two wrong answers running",
        ),
        pytest.param({"failures": 0, "tokens": 5}, None, False, id="a right answer"),
    ],
)
def test_answers_are_signs(verification: Body, reason: Reason | None, is_bad: bool) -> None:
    asked = make_revision(2, status={"startedAt": at(-120), "verification": verification})
    sign = sign_of(revision=asked)
    assert (sign and sign.reason, sign is not None and sign.is_bad) == (reason, is_bad)


def test_the_report_of_an_inspection_is_found() -> None:
    tried = inspect(terminated(75, report("HubUnavailable")), "inspect-1")
    done = inspect(terminated(0, json.dumps(INSPECTION)), "inspect-2")
    found = failures.find_inspection(see(tried, done), CANDIDATE)
    assert found is not None
    assert (found.commit, found.total_bytes) == (COMMIT, INSPECTION["totalBytes"])


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(inspect(raw_container()["state"]), id="that still runs"),
        pytest.param(inspect(terminated(75, report("HubUnavailable"))), id="that failed"),
        pytest.param(serve(terminated(0, json.dumps(INSPECTION))), id="of another role"),
    ],
)
def test_there_is_no_report_of_an_inspection(pod: Body) -> None:
    assert failures.find_inspection(see(pod), CANDIDATE) is None


def test_three_failed_inspections_are_a_crash_loop() -> None:
    crash = terminated(70, report("Crash", "KeyError"))
    sign = sign_of(*(inspect(crash, f"inspect-{n}") for n in range(3)))
    assert sign is not None
    assert sign.reason is Reason.CrashLooping


def test_a_download_that_goes_on_after_a_pause_is_no_sign_any_more() -> None:
    running = raw_container()["state"]
    assert sign_of(stage(running, terminated(75, report("HubUnavailable")))) is None
