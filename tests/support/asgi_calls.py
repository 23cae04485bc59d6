"""Both applications of a runtime with the mock engine, called in the test's own loop."""

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from typing import Any

import fastapi
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Message, Scope

from chatmodel_runtime import (
    app,
    draining,
    keys,
    management,
    metrics,
    patients,
    scheduling,
    settings,
    tracing,
    triage,
)
from chatmodel_runtime.engines import Engine
from chatmodel_runtime.engines.mock import MockEngine

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

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """Return what the body says."""
        return json.loads(self.body)


@dataclasses.dataclass(frozen=True)
class Inside:
    """A runtime without sockets."""

    public: fastapi.FastAPI
    management: fastapi.FastAPI
    scheduler: scheduling.Scheduler

    async def metrics(self) -> str:
        """Return the body of `/metrics`."""
        reply = await call(self.management, "GET", "/metrics")
        assert reply.status == 200
        return reply.text


@contextlib.asynccontextmanager
async def serving(
    engine: Engine | None = None,
    *,
    room: tuple[int, int] = (8, 32),
    telemetry: TelemetryConfig = tracing.OFF,
    **config: Any,
) -> AsyncIterator[Inside]:
    """Yield a runtime whose engine is ready; room is for so many at once and in the queue."""
    found = settings.ServeConfig.model_validate(CONFIG | config)
    limits = found.limits
    scheduler = scheduling.Scheduler(
        engine or MockEngine(),
        scheduling.Room(*room),
        scheduling.Deadlines(
            total=limits.request_deadline_seconds,
            first=limits.first_token_deadline_seconds,
            idle=limits.idle_deadline_seconds,
        ),
        metrics.Metrics(
            metrics.Identity(found.mode, found.engine, found.model_id or "mock", found.revision)
        ),
    )

    async def warm_up() -> None:
        """Nothing to try."""

    await scheduler.start(warm_up)
    story = triage.Triage(found, patients.DemoPatients(), scheduler)
    verifier = management.Verifier(found, scheduler)
    try:
        yield Inside(
            app.build_app(found, scheduler, story, keys.ApiKeys(found.auth), telemetry),
            management.build_serve_app(
                scheduler, verifier, management.MainLoop(), draining.Drain(0)
            ),
            scheduler,
        )
    finally:
        scheduler.close()


async def call(
    target: ASGIApp,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    query: str = "",
    headers: dict[str, str] | None = None,
    stays: bool = True,
) -> Reply:
    """Return the application's reply to JSON; the client stays, or leaves once it has asked."""
    fields = {"content-type": "application/json"} | (headers or {})
    return await send(target, method, path, body, query=query, headers=fields, stays=stays)


async def send(
    target: ASGIApp,
    method: str,
    path: str,
    body: bytes,
    *,
    headers: dict[str, str],
    query: str = "",
    stays: bool = True,
) -> Reply:
    """Return the application's reply to a request with these headers and no other."""
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in headers.items()],
        "client": ("203.0.113.7", 4711),
        "server": ("127.0.0.1", 8002),
        "scheme": "http",
        "http_version": "1.1",
    }
    given: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Message] = []

    async def receive() -> Message:
        if given:
            return given.pop()
        if stays:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def take(message: Message) -> None:
        sent.append(message)

    await target(scope, receive, take)
    pairs = sent[0]["headers"]
    found = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in pairs}
    whole = b"".join(message.get("body", b"") for message in sent[1:])
    return Reply(sent[0]["status"], found, whole)
