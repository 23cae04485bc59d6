"""Words that operator and runtime must have in common: names, reasons, exit codes, last words."""

from typing import get_args

import pytest
from signs import serve, sign_of

from chatmodel_operator import failures, names, revision
from chatmodel_operator.api import chatmodel as chatmodel_api
from chatmodel_operator.api.reasons import Class, Reason
from chatmodel_operator.api.reasons_explained import EXPLANATIONS
from chatmodel_runtime import commands, errors, settings


def test_both_sides_use_the_same_words() -> None:
    assert names.ENV_CONFIG == settings.ENV_CONFIG
    assert names.PUBLIC_PORT == commands.PUBLIC_PORT
    assert names.MANAGEMENT_PORT == commands.MANAGEMENT_PORT
    assert chatmodel_api.QWEN_MODEL_ID == settings.QWEN_MODEL_ID
    assert revision.QWEN_ALIASES == settings.QWEN_ALIASES
    assert get_args(chatmodel_api.Quantization) == get_args(settings.Quantization)
    assert set(settings.CONFIGS) <= set(commands.COMMANDS)
    rendered = {names.CONTAINER_SERVE, names.CONTAINER_STAGE, names.CONTAINER_INSPECT}
    assert rendered == set(settings.CONFIGS)


@pytest.mark.parametrize("word", sorted(errors.BAD_MODEL_REASONS | {"ConfigError"}))
def test_what_the_runtime_calls_bad_is_bad(word: str) -> None:
    assert EXPLANATIONS[Reason(word)].klass is Class.BAD_REVISION


@pytest.mark.parametrize("word", sorted(errors.TRY_AGAIN_REASONS))
def test_what_the_runtime_tries_again_is_not_the_models_fault(word: str) -> None:
    assert EXPLANATIONS[Reason(word)].klass in (Class.ENVIRONMENT, Class.CURED_OUTSIDE)


def test_exit_codes_agree() -> None:
    assert failures.EXIT_CONFIG == errors.ConfigError.exit_code
    assert failures.EXIT_BAD_MODEL == errors.BadModel.exit_code
    assert failures.EXIT_TRY_AGAIN == errors.TryAgain.exit_code
    assert errors.EXIT_CRASH not in (
        failures.EXIT_CONFIG,
        failures.EXIT_BAD_MODEL,
        failures.EXIT_TRY_AGAIN,
    )


ENDINGS: list[errors.Failure] = [
    errors.ConfigError("said"),
    *(errors.BadModel(word, "said") for word in sorted(errors.BAD_MODEL_REASONS)),
    *(errors.TryAgain(word, "said") for word in sorted(errors.TRY_AGAIN_REASONS)),
]


@pytest.mark.parametrize(
    "failure", [pytest.param(failure, id=failure.reason) for failure in ENDINGS]
)
def test_last_words_of_the_runtime_are_read_as_they_were_meant(failure: errors.Failure) -> None:
    ended = {"exitCode": failure.exit_code, "reason": "Error", "message": failure.report()}
    sign = sign_of(serve({"terminated": ended}))
    assert sign is not None
    assert (sign.reason, sign.message) == (failure.reason, "said")
    assert sign.is_bad is not failure.retryable
