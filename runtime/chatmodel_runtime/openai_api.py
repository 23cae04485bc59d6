"""`/v1/chat/completions` and `/v1/models` as OpenAI's clients know them: HTTP in, HTTP out.

Called by `app`. Errors have OpenAI's shape, are generic and carry a request id.
"""

import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import fastapi
import pydantic_core
from fastapi.responses import JSONResponse, Response, StreamingResponse

from chatmodel_runtime import bodies, chat, generating, keys, outcomes, refusals, request_log
from chatmodel_runtime.schemas import problems
from chatmodel_runtime.schemas.openai import ChatRequest

logger = logging.getLogger(__name__)
Body = dict[str, Any]
KINDS = {400: "invalid_request_error", 429: "rate_limit_error"}
PREFIX = "/v1/"
CHAT = "/v1/chat/completions"


def add_routes(app: fastapi.FastAPI, story: chat.Chat) -> None:
    """Add the routes under `/v1`."""

    @app.get("/v1/models", responses=problems.KEY)
    async def list_models() -> Body:
        return story.list_models()

    async def complete(body: ChatRequest, request: fastapi.Request) -> Response:
        entry = request_log.Entry(CHAT)
        owner = keys.read_owner(request.scope)
        try:
            if body.stream:
                events = await _begin(story.stream(body, owner, entry.note))
                return StreamingResponse(_write(events, entry), media_type="text/event-stream")
            answer = await story.complete(body, owner, request.is_disconnected, entry.note)
            response = Response(pydantic_core.to_json(answer), media_type="application/json")
        except Exception as error:  # whatever an engine raises, the client reads one sentence
            response = refuse(error, entry.trace_id)
        entry.write(response.status_code)
        return response

    app.router.add_api_route(
        CHAT,
        complete,
        methods=["POST"],
        response_model=None,
        responses=problems.CHAT,
        route_class_override=bodies.JsonRoute,
    )


def refuse_body(fault: Body, trace_id: str) -> JSONResponse:
    """Return the answer to a body that does not fit, from its first fault."""
    where = ".".join(str(part) for part in fault["loc"][1:])
    problem = _problem("invalid_request_error", str(fault["msg"]), param=where, trace_id=trace_id)
    return JSONResponse(problem, 422)


async def _begin(events: AsyncGenerator[Body]) -> AsyncGenerator[Body]:
    """Wait for the first event, so that a refusal still gets its status code."""
    first = await anext(events)

    async def all_of_them() -> AsyncGenerator[Body]:
        async with contextlib.aclosing(events):
            yield first
            async for event in events:
                yield event

    return all_of_them()


async def _write(events: AsyncGenerator[Body], entry: request_log.Entry) -> AsyncIterator[bytes]:
    """Yield server-sent events; what goes wrong on the way is the last one but the end's."""
    status = outcomes.GONE
    try:
        try:
            async for event in events:
                yield b"data: " + pydantic_core.to_json(event) + b"\n\n"
            status = 200
        except Exception as error:
            status, problem, _ = _describe(error, entry.trace_id)
            yield b"data: " + pydantic_core.to_json(problem) + b"\n\n"
        yield b"data: [DONE]\n\n"
    finally:
        await events.aclose()
        entry.write(status)


def refuse(error: Exception, trace_id: str) -> JSONResponse:
    """Return the answer that tells an error."""
    status, problem, headers = _describe(error, trace_id)
    return JSONResponse(problem, status, headers)


def _describe(error: Exception, trace_id: str) -> tuple[int, Body, dict[str, str]]:
    """Return status, body and headers that tell an error."""
    found = outcomes.describe(error, trace_id)
    code = "context_length_exceeded" if isinstance(error, generating.PromptTooLong) else None
    kind = KINDS.get(found.status, "server_error")
    problem = _problem(kind, found.sentence, code=code, trace_id=trace_id)
    return found.status, problem, found.headers


def _problem(
    kind: str,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    trace_id: str = "",
) -> Body:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return {"error": error, "trace_id": trace_id or refusals.new_trace_id()}
