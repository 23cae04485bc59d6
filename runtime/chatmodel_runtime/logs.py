"""JSON lines on standard output: time, level, logger, message and the fields given by `extra`.

Called by `commands`. Libraries may warn, not talk: an HTTP client's log would hold URLs.
"""

import asyncio
import json
import logging
import re
import sys
import threading
from typing import Any

logger = logging.getLogger(__name__)

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}
_ENCODER = json.JSONEncoder(default=str)
_TOKEN = re.compile(r"hf_[A-Za-z0-9]{8,}|(?i:bearer|basic) [A-Za-z0-9._~+/=-]{8,}")


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what looks like a token is struck out."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        body = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        body |= {key: value for key, value in vars(record).items() if key not in _OWN}
        if record.exc_info and record.exc_info[0] is not None:
            # Kind and place, not the text: that may hold what a user wrote.
            body["exception"] = record.exc_info[0].__name__
            trace = record.exc_info[2]
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:
                code = trace.tb_frame.f_code
                body["at"] = f"{code.co_filename}:{trace.tb_lineno}"
        line = _ENCODER.encode(body)
        return _TOKEN.sub("[token]", line) if _may_hold_token(line) else line


def _may_hold_token(line: str) -> bool:
    """Say whether a closer look is worth its time: most lines hold no such word."""
    lower = line.lower()
    return "hf_" in line or "bearer " in lower or "basic " in lower


def configure_logs() -> None:
    """Send our own log at INFO, everybody else's at WARNING, to standard output as JSON.

    What nobody caught, in whatever thread, goes the same way: Python would print its text.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    # None is in our lines, and each costs a system call, a look-up or a walk up the stack a line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    set_level("INFO")
    sys.excepthook = lambda kind, error, trace: _log_uncaught(error)
    threading.excepthook = lambda seen: _log_uncaught(seen.exc_value)
    sys.unraisablehook = lambda seen: _log_uncaught(seen.exc_value)


def set_level(level: str) -> None:
    """Choose how much our own modules say; libraries warn only, at every level."""
    logging.getLogger("chatmodel_runtime").setLevel(level)


def log_uncaught(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what no task has caught, as its kind and place; asyncio would write its text."""
    _log_uncaught(context.get("exception"))


def _log_uncaught(error: BaseException | None) -> None:
    logger.error("nobody caught this", exc_info=error)
