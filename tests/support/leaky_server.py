"""A server that leaks in one place: the planted sample of the search for canaries.

    python leaky_server.py PORT PLACE

Answers every request with 200; what the request said of a patient goes to PLACE. It logs as the
runtime does, so that a careless line of ours would look the same.
"""

import logging
import pathlib
import sys
import tempfile
import warnings

import uvicorn
from starlette.types import Receive, Scope, Send

from chatmodel_runtime import logs

PORT, PLACE = int(sys.argv[1]), sys.argv[2]
logger = logging.getLogger("chatmodel_runtime.leaky")


def leak(text: str) -> dict[str, str]:
    """Put a text where it does not belong; return header fields of the answer."""
    if PLACE == "standard output":
        logger.debug("asked", extra={"body": text})
    elif PLACE == "standard error":
        print(f"could not read {text}", file=sys.stderr, flush=True)
    elif PLACE == "files":
        handle = tempfile.NamedTemporaryFile("w", delete=False)
        with handle:
            handle.write(text)
    elif PLACE == "answers":
        return {"x-seen": text.encode().hex()}
    return {}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, and leak; the management port is the path /management."""
    message = await receive()
    text = message["body"].decode(errors="replace")
    is_management = scope["path"].startswith("/management")
    fields = {} if is_management else leak(text)
    if not is_management:
        seen.append(text)
    body = " ".join(seen).encode() if is_management and PLACE == "management" else b"{}"
    headers = [(k.encode(), v.encode()) for k, v in fields.items()]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


seen: list[str] = []

if __name__ == "__main__":
    logs.configure_logs()
    logs.set_level("DEBUG")
    assert pathlib.Path(tempfile.gettempdir()) != pathlib.Path("/tmp"), "its folder is watched"
    warnings.simplefilter("always")
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_config=None, access_log=False)
