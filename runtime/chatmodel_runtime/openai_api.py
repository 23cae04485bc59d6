"""`/v1/chat/completions` and `/v1/models` as OpenAI's clients know them: HTTP in, HTTP out.

Called by `app`. Errors have OpenAI's shape, are generic and carry a request id.
"""

import contextlib
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any

import fastapi
import pydantic_core
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from fastapi.routing import APIRoute

from chatmodel_runtime import chat, generating, request_log, scheduling
from chatmodel_runtime.schemas.openai import ChatRequest

logger = logging.getLogger(__name__)
Body = dict[str, Any]
PREFIX = "/v1"
CHAT = f"{PREFIX}/chat/completions"
GONE = 499  # what proxies write down when a client has left


class _Route(APIRoute):
    """A route whose refusals of a body have OpenAI's shape, without what was in the body."""

    def get_route_handler(self) -> Callable[[fastapi.Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_or_refuse(request: fastapi.Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                fault = error.errors()[0]
                where = ".".join(str(part) for part in fault["loc"][1:])
                problem = _problem("invalid_request_error", str(fault["msg"]), param=where)
                return JSONResponse(problem, 422)

        return handle_or_refuse


def build_router(story: chat.Chat) -> fastapi.APIRouter:
    """Return the routes under `/v1`."""
    router = fastapi.APIRouter(prefix=PREFIX, route_class=_Route)

    @router.get("/models")
    async def list_models() -> Body:
        return story.list_models()

    @router.post("/chat/completions", response_model=None)
    async def complete(body: ChatRequest, request: fastapi.Request) -> Response:
        entry = request_log.Entry(CHAT)
        try:
            if body.stream:
                events = await _begin(story.stream(body, entry.note))
                return StreamingResponse(_write(events, entry), media_type="text/event-stream")
            answer = await story.complete(body, request.is_disconnected, entry.note)
            response = Response(pydantic_core.to_json(answer), media_type="application/json")
        except Exception as error:  # whatever an engine raises, the client reads one sentence
            response = refuse(error, entry.trace_id)
        entry.write(response.status_code)
        return response

    return router


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
    status = GONE
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
    headers: dict[str, str] = {}
    found: tuple[int, str, str, str | None]
    match error:
        case scheduling.Overloaded():
            headers = {"Retry-After": str(error.retry_after)}
            found = (429, "rate_limit_error", "too many requests", None)
        case scheduling.NotReady():
            headers = {"Retry-After": "5"}
            found = (503, "server_error", "the model is not ready", None)
        case scheduling.DeadlineExceeded():
            found = (504, "server_error", "the answer took too long", None)
        case scheduling.ClientGone():
            found = (GONE, "server_error", "the client has left", None)
        case generating.PromptTooLong():
            found = (400, "invalid_request_error", str(error), "context_length_exceeded")
        case _:
            logger.error(
                "answer failed", extra={"trace_id": trace_id, "kind": type(error).__name__}
            )
            found = (500, "server_error", "error generating response", None)
    status, kind, message, code = found
    return status, _problem(kind, message, code=code, trace_id=trace_id), headers


def _problem(
    kind: str,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    trace_id: str = "",
) -> Body:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return {"error": error, "trace_id": trace_id or str(uuid.uuid4())}
