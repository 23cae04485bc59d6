"""The public application with the mock engine, in the test's own process and loop."""

import asyncio
import contextlib
import dataclasses
import json
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import fastapi
from starlette.types import Message, Scope

from chatmodel_runtime import app as public
from chatmodel_runtime import keys, patients, scheduling, settings, triage
from chatmodel_runtime.engines.mock import MockEngine

JSON = {"Content_Type": "application/json"}
CONFIG = {
    "command": "serve",
    "chatModel": "triage",
    "revision": "triage-6f3a2c",
    "mode": "mock",
    "engine": "Mock",
    "patientContext": {"source": "Demo"},
    "auth": {"mode": "None"},
}


@dataclasses.dataclass(frozen=True)
class Reply:
    """What an application sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return what the body says."""
        return json.loads(self.body)


def triage_body(mrn: Any, query: Any, **more: Any) -> bytes:
    """Return the body of a question."""
    return json.dumps({"patient_mrn": mrn, "query": query} | more).encode()


@contextlib.asynccontextmanager
async def serving(
    keys_dir: pathlib.Path | None = None, **config: Any
) -> AsyncIterator[fastapi.FastAPI]:
    """Yield the application, its engine ready; with keys when a folder of them is given."""
    auth = {"mode": "ApiKey", "keysDir": keys_dir} if keys_dir else {"mode": "None"}
    found = settings.ServeConfig.model_validate(CONFIG | {"auth": auth} | config)
    deadlines = scheduling.Deadlines(total=30, first=30, idle=30)
    scheduler = scheduling.Scheduler(MockEngine(), scheduling.Room(8, 1000), deadlines)

    async def warm_up() -> None:
        """Nothing to try."""

    await scheduler.start(warm_up)
    story = triage.Triage(found, patients.DemoPatients(), scheduler)
    try:
        yield public.build_app(found, scheduler, story, keys.ApiKeys(found.auth))
    finally:
        scheduler.close()
        await story.close()


async def ask(
    app: fastapi.FastAPI, method: str, path: str, body: bytes = b"", **headers: str
) -> Reply:
    """Return the application's reply; `_` in a header's name is a dash."""
    fields = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    if body:
        fields.setdefault("content-length", str(len(body)))
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in fields.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8002),
        "scheme": "http",
        "http_version": "1.1",
    }
    given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        if not given:
            await asyncio.Event().wait()  # a client that stays
        return given.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    pairs = sent[0]["headers"]
    found = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in pairs}
    return Reply(sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:]))
