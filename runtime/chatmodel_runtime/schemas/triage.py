"""`POST /triage`, as the origin's clients know it, and what we add."""

from typing import Annotated, Literal

import pydantic

# Not only dots: those would be another path.
Mrn = Annotated[str, pydantic.Field(pattern=r"^\.*[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length=64)]
NonEmpty = Annotated[str, pydantic.Field(min_length=1, max_length=8000)]


class TriageRequest(pydantic.BaseModel):
    """A question about a patient. `llm_mode` is accepted and ignored: the ChatModel decides."""

    patient_mrn: Mrn
    query: NonEmpty
    llm_mode: str | None = None


class Usage(pydantic.BaseModel):
    """Tokens of prompt and answer, thinking included."""

    prompt_tokens: int
    completion_tokens: int


class TriageResponse(pydantic.BaseModel):
    """The origin's seven fields first, ours after them."""

    trace_id: str
    patient_mrn: str
    query: str
    llm_mode: str
    response: str
    inference_time_ms: float
    conversation_id: str | None
    urgency: Literal["emergency", "urgent", "unknown"]
    finish_reason: Literal["stop", "length"]
    thinking_truncated: bool
    usage: Usage
    model: str
    revision: str
    degraded: bool
    safety_note: str
