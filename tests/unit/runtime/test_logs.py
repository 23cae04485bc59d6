"""What a log line holds, and what never."""

import json
import logging
import os
import subprocess
import sys
import textwrap
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


UNCAUGHT = {
    "the main thread": "raise ValueError('canary')",
    "another thread": """
        import threading
        def work(): raise ValueError('canary')
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    """,
    "a finalizer": """
        class Bad:
            def __del__(self): raise ValueError('canary')
        Bad()
    """,
    "a task nobody asked": """
        import asyncio, gc
        async def fail(): raise ValueError('canary')
        async def main():
            asyncio.get_running_loop().set_exception_handler(logs.log_uncaught)
            task = asyncio.create_task(fail())
            await asyncio.sleep(0)
            del task
            gc.collect()
        asyncio.run(main())
    """,
    "a callback": """
        import asyncio
        def fail(text): raise ValueError(text)
        async def main():
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(logs.log_uncaught)
            loop.call_soon(fail, 'canary')
            await asyncio.sleep(0)
        asyncio.run(main())
    """,
}


@pytest.mark.parametrize("where", UNCAUGHT)
def test_what_nobody_caught_is_a_kind_and_a_place_as_well(where: str) -> None:
    code = "from chatmodel_runtime import logs\nlogs.configure_logs()\n"
    code += textwrap.dedent(UNCAUGHT[where])
    env = {k: v for k, v in os.environ.items() if k in ("PATH", "PYTHONPATH")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    (said,) = done.stdout.splitlines()
    assert json.loads(said)["exception"] == "ValueError"
    assert "canary" not in done.stdout + done.stderr
    assert done.stderr == ""


def test_libraries_only_warn_at_every_level() -> None:
    code = """
from chatmodel_runtime import logs
import logging, warnings
logs.configure_logs()
logs.set_level("DEBUG")
logging.getLogger("httpx2").info("GET http://db/patients/canary")
logging.getLogger("httpx2").debug("canary")
logging.getLogger("httpx2").warning("a warning")
logging.getLogger("chatmodel_runtime.x").debug("ours")
warnings.warn("something old")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    messages = [json.loads(line)["message"] for line in done.stdout.splitlines()]
    assert messages[:2] == ["a warning", "ours"]
    assert "something old" in messages[2]
    assert done.stderr == ""
