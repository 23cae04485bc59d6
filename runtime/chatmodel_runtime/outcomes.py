"""What goes wrong with an answer, as status and one generic sentence: the same on both APIs.

Called by `app` and `openai_api`. Never repeats anything of a request.
"""

import dataclasses
import logging

from chatmodel_runtime import generating, patients, rates, scheduling, waiting

logger = logging.getLogger(__name__)
GONE = 499  # what proxies write down when a client has left; nobody reads it
LOADING_SECONDS = 5


@dataclasses.dataclass(frozen=True)
class Outcome:
    """An HTTP status, a sentence, and in how many seconds to ask again, if that would help."""

    status: int
    sentence: str
    retry_after: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with it."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def describe(error: Exception, trace_id: str) -> Outcome:
    """Return what a client reads of an error; an unexpected one is logged by its kind."""
    match error:
        case patients.PatientSourceDown():
            return Outcome(503, "Error fetching patient data")
        case scheduling.NotReady():
            return Outcome(503, "Model is loading", LOADING_SECONDS)
        case scheduling.Overloaded() | rates.TooOften():
            return Outcome(429, "Too many requests", error.retry_after)
        case waiting.DeadlineExceeded():
            return Outcome(504, "The answer took too long")
        case waiting.ClientGone():
            return Outcome(GONE, "The client has left")
        case generating.PromptTooLong():
            return Outcome(400, f"Too long for the model: {error}")
    logger.error("answer failed", extra={"trace_id": trace_id, "kind": type(error).__name__})
    return Outcome(500, "Error generating response")
