"""The public application with the mock engine, in the test's own process and loop."""

import contextlib
import json
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import asgi_calls
import fastapi
from asgi_calls import Reply

JSON = {"Content_Type": "application/json"}


def triage_body(mrn: Any, query: Any, **more: Any) -> bytes:
    """Return the body of a question."""
    return json.dumps({"patient_mrn": mrn, "query": query} | more).encode()


@contextlib.asynccontextmanager
async def serving(
    keys_dir: pathlib.Path | None = None, **config: Any
) -> AsyncIterator[fastapi.FastAPI]:
    """Yield the application, its engine ready; with keys when a folder of them is given."""
    auth = {"mode": "ApiKey", "keysDir": keys_dir} if keys_dir else {"mode": "None"}
    async with asgi_calls.serving(room=(8, 1000), auth=auth, **config) as inside:
        yield inside.public


async def ask(
    app: fastapi.FastAPI, method: str, path: str, body: bytes = b"", **headers: str
) -> Reply:
    """Return the application's reply; `_` in a header's name is a dash."""
    fields = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    if body:
        fields.setdefault("content-length", str(len(body)))
    return await asgi_calls.send(app, method, path, body, headers=fields)
