"""The public port: `/triage`, `/health`, `/ready`, `/`. HTTP in, HTTP out; the story is elsewhere.

Every route but the two probes needs a key. Errors are generic and carry a trace id; a body that
does not fit is refused without repeating it.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import fastapi
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from chatmodel_runtime import (
    bodies,
    browsers,
    chat,
    gates,
    keys,
    limits,
    measuring,
    openai_api,
    patients,
    refusals,
    request_log,
    scheduling,
    tracing,
    triage,
)
from chatmodel_runtime.schemas import problems
from chatmodel_runtime.schemas.triage import TriageRequest, TriageResponse
from chatmodel_runtime.settings import ServeConfig

logger = logging.getLogger(__name__)
VERSION = "0.1.0"
JSON = "application/json"
# Faults whose words would repeat a name or a value of the body.
REPEATING = frozenset({"extra_forbidden", "union_tag_invalid"})


def build_app(
    config: ServeConfig,
    scheduler: scheduling.Scheduler,
    story: triage.Triage,
    api_keys: keys.ApiKeys,
    telemetry: TelemetryConfig = tracing.OFF,
) -> fastapi.FastAPI:
    """Return the public application."""
    app = fastapi.FastAPI(
        title="chatmodel",
        version=VERSION,
        openapi_url="/openapi.json" if config.development else None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        telemetry=telemetry,
    )

    async def ask(body: TriageRequest, request: fastapi.Request) -> Response:
        return await _ask(story, body, request.is_disconnected)

    # Routes are tried in their order; this is the one that is asked.
    app.router.add_api_route(
        gates.TRIAGE,
        ask,
        methods=["POST"],
        response_model=TriageResponse,
        responses=problems.TRIAGE,
        route_class_override=bodies.JsonRoute,
    )
    openai_api.add_routes(app, chat.Chat(config, scheduler))
    # The last one added is asked first.
    app.add_middleware(limits.LimitBody, seconds=config.limits.body_seconds)
    if (most := config.limits.requests_per_minute_per_key) is not None:
        app.add_middleware(gates.LimitRate, per_minute=most, metrics=scheduler.metrics)
    app.add_middleware(gates.RefuseOverload, scheduler=scheduler)
    app.add_middleware(gates.RequireKey, api_keys=api_keys)
    if config.allowed_origins:
        app.add_middleware(browsers.AllowOrigins, origins=config.allowed_origins)
    app.add_middleware(measuring.CountRequests, metrics=scheduler.metrics)
    app.add_exception_handler(RequestValidationError, _refuse_body)
    app.add_exception_handler(HTTPException, _refuse_route)
    app.add_exception_handler(Exception, _refuse_for_ourselves)
    _add_descriptions(app, config, scheduler)

    return app


def _add_descriptions(
    app: fastapi.FastAPI, config: ServeConfig, scheduler: scheduling.Scheduler
) -> None:
    """Add what says who this is and whether it can answer."""

    @app.get("/", responses=problems.KEY)
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

    @app.get("/ready", responses=problems.READY)
    async def ready() -> JSONResponse:
        if scheduler.state == "ready":
            return JSONResponse({"status": "ready", "service": "chat-api", "version": VERSION})
        message = "the model is not loaded yet"
        return JSONResponse({"status": "loading", "message": message}, status_code=503)


async def _ask(
    story: triage.Triage, body: TriageRequest, is_gone: Callable[[], Awaitable[bool]]
) -> Response:
    entry = request_log.Entry(gates.TRIAGE)
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
    except Exception as error:  # whatever an engine raises, the client reads one sentence
        outcome = gates.refuse_triage(error, entry.trace_id)
    entry.write(outcome.status_code)
    return outcome


async def _refuse_body(request: fastapi.Request, error: Exception) -> JSONResponse:
    """Say which fields do not fit, never what was in them."""
    assert isinstance(error, RequestValidationError)
    faults = [_describe(fault) for fault in error.errors()]
    trace_id = refusals.new_trace_id()
    logger.info("request refused", extra={"trace_id": trace_id, "status": 422})
    if request.url.path.startswith(openai_api.PREFIX):
        return openai_api.refuse_body(faults[0], trace_id)
    return JSONResponse({"detail": faults, "trace_id": trace_id}, status_code=422)


def _describe(fault: Any) -> dict[str, Any]:
    if fault["type"] in REPEATING:
        return {"loc": fault["loc"][:1], "msg": "Not what is taken here", "type": fault["type"]}
    return {"loc": fault["loc"], "msg": fault["msg"], "type": fault["type"]}


async def _refuse_route(request: fastapi.Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return refusals.refuse(error.status_code, headers=error.headers)


async def _refuse_for_ourselves(request: fastapi.Request, error: Exception) -> JSONResponse:
    return refusals.refuse(500, "An unexpected error occurred")
