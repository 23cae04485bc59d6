"""How a command ends: exit code, and last words for the kubelet.

Called by `commands`.
"""

import contextlib
import json
import logging
import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from chatmodel_runtime import settings
from chatmodel_runtime.errors import EXIT_CRASH, Failure
from chatmodel_runtime.logs import set_level

logger = logging.getLogger("chatmodel_runtime")
TERMINATION_LOG = pathlib.Path("/dev/termination-log")
Command = Callable[[Mapping[str, str]], dict[str, Any] | None]


def leave(code: int) -> NoReturn:
    """End the process now: it takes an interpreter seconds to take a loaded torch apart."""
    logging.shutdown()
    with contextlib.suppress(OSError):  # nobody reads any more
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def end(work: Command, env: Mapping[str, str]) -> int:
    """Run a command and return its exit code, its last words written for the kubelet."""
    try:
        set_level(settings.log_level(env))
        result = work(env)
    except Failure as failure:
        logger.error(str(failure))
        _write_termination(failure.report())
        return failure.exit_code
    except Exception as error:
        logger.exception("crashed")
        crash = Failure("Crash", type(error).__name__)
        _write_termination(crash.report())
        return EXIT_CRASH
    if result is not None:
        _write_termination(json.dumps(result))
    return 0


def _write_termination(text: str) -> None:
    if TERMINATION_LOG.exists():
        TERMINATION_LOG.write_text(text)
