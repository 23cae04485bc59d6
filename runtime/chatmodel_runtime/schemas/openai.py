"""`POST /v1/chat/completions`: the part of OpenAI's request that this runtime serves.

What would change an answer and is not served (tools, images, templates, grammars, several choices)
is refused; what only tunes or labels is accepted and has no effect.
"""

from typing import Annotated, Any, Literal

import pydantic

MAX_MESSAGES = 64
Text = Annotated[str, pydantic.Field(max_length=200_000)]
Stop = Annotated[str, pydantic.Field(min_length=1, max_length=64)]


class Part(pydantic.BaseModel):
    """A piece of a message: text; nothing is ever fetched."""

    model_config = pydantic.ConfigDict(extra="forbid")

    type: Literal["text"]
    text: Text


class ChatMessage(pydantic.BaseModel):
    """A message; `developer` is OpenAI's newer word for `system`."""

    model_config = pydantic.ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[Part], pydantic.Field(min_length=1, max_length=64)]
    name: str | None = None
    # What this API itself answers with may be sent back; it is not shown to the model again.
    reasoning_content: Text | None = None
    refusal: None = None


class StreamOptions(pydantic.BaseModel):
    """Whether the last event tells the tokens."""

    model_config = pydantic.ConfigDict(extra="forbid")

    include_usage: bool = False


class ChatRequest(pydantic.BaseModel):
    """A chat to be continued. Any non-empty `model` is accepted: the ChatModel decides."""

    model_config = pydantic.ConfigDict(extra="forbid")

    model: Annotated[str, pydantic.Field(min_length=1, max_length=200)]
    messages: Annotated[list[ChatMessage], pydantic.Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, pydantic.Field(ge=1)] | None = None  # of the answer
    max_completion_tokens: Annotated[int, pydantic.Field(ge=1)] | None = None  # thinking too
    temperature: Annotated[float, pydantic.Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, pydantic.Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, pydantic.Field(ge=0)] | None = None
    stop: Stop | Annotated[list[Stop], pydantic.Field(max_length=4)] | None = None
    n: Literal[1] | None = None
    presence_penalty: Literal[0] | None = None
    frequency_penalty: Literal[0] | None = None
    response_format: dict[Literal["type"], Literal["text"]] | None = None
    logprobs: Literal[False] | None = None
    seed: int | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
