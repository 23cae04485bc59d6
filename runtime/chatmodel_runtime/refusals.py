"""What a client reads when it is refused: one generic sentence and a trace id.

Called by `app`, `limits`, `heads` and `browsers`. Never repeats anything of the request; the same
trace id is in the log, with the status and nothing else.
"""

import http
import logging
import uuid
from collections.abc import Mapping

from fastapi.responses import JSONResponse

logger = logging.getLogger(__name__)
LAST = {"connection": "close"}  # for answers that leave a part of the request unread


def new_trace_id() -> str:
    """Return a random request id."""
    return str(uuid.uuid4())


def build(
    status: int, error: str, trace_id: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the answer `{detail: {error, trace_id}}`."""
    detail = {"error": error, "trace_id": trace_id}
    return JSONResponse({"detail": detail}, status_code=status, headers=headers)


def refuse(
    status: int, error: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """Return the answer to a request that got to no story of its own, and log that it was given."""
    trace_id = new_trace_id()
    logger.info("request refused", extra={"trace_id": trace_id, "status": status})
    return build(status, error or http.HTTPStatus(status).phrase, trace_id, headers)
