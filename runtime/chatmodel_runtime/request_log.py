"""The one line that a request for an answer leaves in the log, whatever API it came by.

Called by `app` and `openai_api`. It says sizes, times and outcome, never what was asked
or answered.
"""

import logging
import time

from chatmodel_runtime import refusals
from chatmodel_runtime.generating import Answer

logger = logging.getLogger(__name__)


class Entry:
    """One request, from its beginning to the line that tells how it ended."""

    def __init__(self, route: str) -> None:
        self.trace_id = refusals.new_trace_id()
        self._route = route
        self._started = time.perf_counter()
        self._answer: Answer | None = None

    def note(self, answer: Answer) -> None:
        """Keep what was generated: its sizes are told."""
        self._answer = answer

    def write(self, status: int) -> None:
        """Write the line; what there is no number of is null."""
        made = self._answer
        extra = {
            "trace_id": self.trace_id,
            "route": self._route,
            "status": status,
            "seconds": round(time.perf_counter() - self._started, 3),
            "prompt_tokens": made and made.prompt_tokens,
            "completion_tokens": made and made.tokens,
            "finish_reason": made and made.finish_reason,
        }
        logger.info("request completed", extra=extra)
