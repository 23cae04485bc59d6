"""How refusals look in the description of the public API (`/openapi.json`, in development only).

Read by `app`. The answers themselves are made in `refusals`.
"""

from typing import Any

import pydantic


class Detail(pydantic.BaseModel):
    """One generic sentence, and the id that is in the log as well."""

    error: str
    trace_id: str


class Problem(pydantic.BaseModel):
    """What a refused client reads."""

    detail: Detail


class PatientDetail(Detail):
    """The origin's 404 names whom it did not find."""

    patient_mrn: str


class UnknownPatient(pydantic.BaseModel):
    """No patient has this number."""

    detail: PatientDetail


class Fault(pydantic.BaseModel):
    """Where a body does not fit, and why; never what was in it."""

    loc: list[str | int]
    msg: str
    type: str


class Faults(pydantic.BaseModel):
    """What does not fit."""

    detail: list[Fault]
    trace_id: str


class OpenAIError(pydantic.BaseModel):
    """An error as OpenAI's clients know it."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIProblem(pydantic.BaseModel):
    """What a client of `/v1` reads."""

    error: OpenAIError
    trace_id: str


class Loading(pydantic.BaseModel):
    """Not ready yet."""

    status: str
    message: str


Responses = dict[int | str, dict[str, Any]]

KEY: Responses = {401: {"model": Problem, "description": "API key missing or wrong"}}
READY: Responses = {503: {"model": Loading, "description": "The model is not loaded yet"}}
BODY: Responses = {
    400: {"model": Problem, "description": "Nested too deeply, not readable, or too long a text"},
    408: {"model": Problem, "description": "The body came too slowly"},
    413: {"model": Problem, "description": "The body is too large"},
    415: {"model": Problem, "description": "The body is not application/json"},
    422: {"model": Faults, "description": "The body does not fit"},
}
TRIAGE: Responses = {
    **KEY,
    **BODY,
    404: {"model": UnknownPatient, "description": "Patient not found"},
    429: {"model": Problem, "description": "The queue is full; see Retry-After"},
    500: {"model": Problem, "description": "Error generating response"},
    503: {"model": Problem, "description": "Patient data or model not available"},
    504: {"model": Problem, "description": "The answer took too long"},
}
CHAT: Responses = {
    **KEY,
    **BODY,
    200: {
        "description": "A completion, or with `stream` its chunks",
        "content": {"application/json": {}, "text/event-stream": {}},
    },
    400: {"model": OpenAIProblem | Problem, "description": "Nested too deeply, or too long"},
    422: {"model": OpenAIProblem, "description": "The body does not fit"},
    429: {"model": OpenAIProblem, "description": "The queue is full; see Retry-After"},
    500: {"model": OpenAIProblem, "description": "error generating response"},
    503: {"model": OpenAIProblem, "description": "The model is not ready"},
    504: {"model": OpenAIProblem, "description": "The answer took too long"},
}
