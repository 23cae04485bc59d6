"""How a command ends: reasons, exit codes, last words."""

import json

import pytest

from chatmodel_runtime import errors


@pytest.mark.parametrize(
    ("failure", "code", "retryable"),
    [
        pytest.param(errors.ConfigError("x"), 64, False, id="configuration"),
        pytest.param(errors.BadModel("IntegrityError", "x"), 65, False, id="bad model"),
        pytest.param(errors.TryAgain("CacheMissing", "x"), 75, True, id="try again"),
        pytest.param(errors.Failure("Crash", "x"), 70, False, id="crash"),
    ],
)
def test_the_kind_decides_exit_code_and_retry(
    failure: errors.Failure, code: int, retryable: bool
) -> None:
    assert failure.exit_code == code
    body = json.loads(failure.report())
    assert body == {"reason": failure.reason, "message": "x", "retryable": retryable}


def test_no_reason_is_both_final_and_passing() -> None:
    assert not errors.BAD_MODEL_REASONS & errors.TRY_AGAIN_REASONS


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a" * 9000, id="letters"),
        pytest.param("ü" * 5000, id="letters of two bytes"),
        pytest.param("\U0001f600" * 3000, id="letters of four bytes"),
    ],
)
def test_last_words_fit_into_the_kubelets_four_thousand_bytes(text: str) -> None:
    report = errors.BadModel("ModelLoadFailed", text).report()
    assert len(report.encode()) <= 4000
    assert json.loads(report)["message"]


@pytest.mark.parametrize("text", ['"' * 3000, "\n" * 3000, "\x01" * 3000])
def test_last_words_fit_also_when_every_letter_is_escaped(text: str) -> None:
    assert len(errors.BadModel("UnsafeModelContent", text).report().encode()) <= 4000
