"""The public port: `/triage`, `/health`, `/ready`, `/`. HTTP in, HTTP out; the story is elsewhere.

Every route but the two probes needs a key. Errors are generic and carry a trace id; a body that
does not fit is refused without repeating it.
"""

import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import fastapi
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

from chatmodel_runtime import (
    chat,
    keys,
    measuring,
    openai_api,
    patients,
    request_log,
    scheduling,
    tracing,
    triage,
)
from chatmodel_runtime.schemas.triage import TriageRequest, TriageResponse
from chatmodel_runtime.settings import ServeConfig

logger = logging.getLogger(__name__)
VERSION = "0.1.0"
JSON = "application/json"
OPEN_PATHS = frozenset({"/health", "/ready"})


class RequireKey:
    """Refuse everything but the probes without a valid key."""

    def __init__(self, app: ASGIApp, api_keys: keys.ApiKeys) -> None:
        self._app = app
        self._keys = api_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 401."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
            if not self._keys.allows(headers):
                refusal = _problem(401, "API key missing or wrong", new_trace_id())
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


class RefuseOverload:
    """Refuse at once, before the body is read, what the queue has no room for.

    Reading, checking and looking up first would let a flood keep the event loop from the probes.
    """

    def __init__(self, app: ASGIApp, scheduler: scheduling.Scheduler) -> None:
        self._app = app
        self._scheduler = scheduler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 429 as the route words it."""
        refuse = REFUSALS.get(scope["path"]) if scope["type"] == "http" else None
        if refuse is None or not self._scheduler.is_full():
            await self._app(scope, receive, send)
            return
        entry = request_log.Entry(scope["path"])
        refusal = refuse(self._scheduler.refuse(), entry.trace_id)
        entry.write(refusal.status_code)
        await refusal(scope, receive, send)


def build_app(
    config: ServeConfig,
    scheduler: scheduling.Scheduler,
    story: triage.Triage,
    api_keys: keys.ApiKeys,
    telemetry: TelemetryConfig = tracing.OFF,
) -> fastapi.FastAPI:
    """Return the public application."""
    app = fastapi.FastAPI(title="chatmodel", version=VERSION, openapi_url=None, telemetry=telemetry)
    app.add_middleware(RefuseOverload, scheduler=scheduler)
    app.add_middleware(RequireKey, api_keys=api_keys)  # asked before
    app.add_middleware(measuring.CountRequests, metrics=scheduler.metrics)  # sees the others' too
    app.add_exception_handler(RequestValidationError, _refuse_body)

    @app.get("/")
    async def describe() -> dict[str, str]:
        return {
            "service": "chat-api",
            "version": VERSION,
            "description": "Triage chat service",
            "default_llm_mode": config.mode,
            "revision": config.revision,
        }

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok", "service": "chat-api", "version": VERSION}

    @app.get("/ready")
    async def ready() -> JSONResponse:
        if scheduler.state == "ready":
            return JSONResponse({"status": "ready", "service": "chat-api", "version": VERSION})
        message = "the model is not loaded yet"
        return JSONResponse({"status": "loading", "message": message}, status_code=503)

    @app.post("/triage", response_model=TriageResponse)
    async def ask(body: TriageRequest, request: fastapi.Request) -> Any:
        return await _ask(story, body, request.is_disconnected)

    app.include_router(openai_api.build_router(chat.Chat(config, scheduler)))
    return app


async def _ask(
    story: triage.Triage, body: TriageRequest, is_gone: Callable[[], Awaitable[bool]]
) -> Response:
    entry = request_log.Entry("/triage")
    outcome: Response
    try:
        made = await story.answer(body, entry.trace_id, is_gone, entry.note)
        # As bytes: the framework would check and copy every field once more.
        outcome = Response(made.model_dump_json(), media_type=JSON)
    except patients.PatientNotFound:
        detail = {
            "error": "Patient not found",
            "trace_id": entry.trace_id,
            "patient_mrn": body.patient_mrn,
        }
        outcome = JSONResponse({"detail": detail}, status_code=404)
    except patients.PatientSourceDown:
        outcome = _problem(503, "Error fetching patient data", entry.trace_id)
    except scheduling.NotReady:
        outcome = _problem(503, "Model is loading", entry.trace_id)
    except scheduling.Overloaded as error:
        outcome = _refuse_overload(error, entry.trace_id)
    except scheduling.ClientGone:
        outcome = _problem(openai_api.GONE, "The client has left", entry.trace_id)
    except Exception as error:  # whatever an engine raises, the client reads one sentence
        kind = type(error).__name__
        logger.error("answer failed", extra={"trace_id": entry.trace_id, "kind": kind})
        outcome = _problem(500, "Error generating response", entry.trace_id)
    entry.write(outcome.status_code)
    return outcome


def _refuse_overload(error: Exception, trace_id: str) -> JSONResponse:
    assert isinstance(error, scheduling.Overloaded)
    refusal = _problem(429, "Too many requests", trace_id)
    refusal.headers["Retry-After"] = str(error.retry_after)
    return refusal


async def _refuse_body(request: fastapi.Request, error: Exception) -> JSONResponse:
    """Say which fields do not fit, never what was in them."""
    assert isinstance(error, RequestValidationError)
    faults = [
        {"loc": fault["loc"], "msg": fault["msg"], "type": fault["type"]}
        for fault in error.errors()
    ]
    return JSONResponse({"detail": faults, "trace_id": new_trace_id()}, status_code=422)


def _problem(status: int, error: str, trace_id: str) -> JSONResponse:
    return JSONResponse({"detail": {"error": error, "trace_id": trace_id}}, status_code=status)


# The routes that generate, and how each words a refusal.
REFUSALS: dict[str, Callable[[Exception, str], JSONResponse]] = {
    "/triage": _refuse_overload,
    openai_api.CHAT: openai_api.refuse,
}


def new_trace_id() -> str:
    """Return a random request id."""
    return str(uuid.uuid4())
