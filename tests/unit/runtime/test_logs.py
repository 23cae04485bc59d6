"""What a log line holds, and what never."""

import json
import logging
import sys
from typing import Any

import pytest

from chatmodel_runtime import logs


def line(message: str, *args: Any, error: Exception | None = None, **extra: Any) -> dict[str, Any]:
    info = None
    if error is not None:
        try:
            raise error
        except Exception:
            info = sys.exc_info()
    record = logging.LogRecord("chatmodel_runtime.x", 20, "x.py", 1, message, args, info)
    vars(record).update(extra)
    body = json.loads(logs.JsonFormatter().format(record))
    assert isinstance(body, dict)
    return body


def test_a_line_has_time_level_logger_message_and_the_given_fields() -> None:
    body = line("request %s", "completed", status=200)
    assert body.pop("time").startswith("20")
    assert body == {
        "level": "info",
        "logger": "chatmodel_runtime.x",
        "message": "request completed",
        "status": 200,
    }


@pytest.mark.parametrize(
    "secret",
    [
        "hf_AbCdEfGh12345678",
        "Bearer abcdefgh12345678",
        "bearer abcdefgh12345678",
        "Basic dXNlcjpwdw==",
    ],
)
def test_what_looks_like_a_token_is_struck_out(secret: str) -> None:
    for body in (line(f"asked with {secret} for it"), line("asked", header=secret)):
        assert secret not in str(body)
        assert "[token]" in str(body)


def test_an_exception_is_a_kind_and_a_place_never_its_text() -> None:
    body = line("crashed", error=ValueError("MRN-001 asked about chest pain"))
    assert body["exception"] == "ValueError"
    assert body["at"].partition(":")[0].endswith("test_logs.py")
    assert "MRN-001" not in str(body)


def test_a_line_break_in_a_message_stays_in_its_line() -> None:
    record = logging.LogRecord("x", 20, "x.py", 1, "one\ntwo", (), None)
    assert "\n" not in logs.JsonFormatter().format(record)


def test_what_json_does_not_know_is_written_as_text() -> None:
    assert line("x", path=__import__("pathlib").Path("a"))["path"] == "a"
