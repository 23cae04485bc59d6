"""The story of one OpenAI chat completion: messages and budget from a request, events from answers.

Called by `openai_api`. Logs nothing; what was asked and answered is in no error.
"""

import time
import uuid
from collections.abc import AsyncGenerator, Callable
from typing import Any

from chatmodel_runtime import generating, scheduling, waiting
from chatmodel_runtime.engines import Message, Sampling
from chatmodel_runtime.generating import Answer, Budget
from chatmodel_runtime.schemas.openai import ChatMessage, ChatRequest
from chatmodel_runtime.settings import ServeConfig

Body = dict[str, Any]
Note = Callable[[Answer], None]  # is told what was generated


class Chat:
    """Answers chat completions with one model."""

    def __init__(self, config: ServeConfig, scheduler: scheduling.Scheduler) -> None:
        self._config = config
        self._scheduler = scheduler
        self._started = int(time.time())

    def list_models(self) -> Body:
        """Return the models: the ChatModel's name first, then what serves under it."""
        names = [self._config.chat_model, self._config.model_id or "mock"]
        data = [
            {
                "id": name,
                "object": "model",
                "created": self._started,
                "owned_by": "chatmodel",
                "revision": self._config.revision,
            }
            for name in names
        ]
        return {"object": "list", "data": data}

    async def complete(
        self, request: ChatRequest, owner: str, is_gone: waiting.IsGone, note: Note
    ) -> Body:
        """Return the whole answer; `owner` stands for the key. Raises what `scheduling` raises."""
        answer = await self._scheduler.answer(
            read_messages(request), self._budget(request, owner), is_gone
        )
        note(answer)
        message = {
            "role": "assistant",
            "content": answer.text,
            "reasoning_content": answer.thinking or None,
            "refusal": None,
        }
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": answer.finish_reason,
        }
        head = self._head("chat.completion")
        return head | {"choices": [choice], "usage": _usage(answer)}

    async def stream(self, request: ChatRequest, owner: str, note: Note) -> AsyncGenerator[Body]:
        """Yield the events of an answer; the first comes once the request is accepted.

        Raises what `scheduling` raises, before the first event or after it.
        """
        head = self._head("chat.completion.chunk")
        options = request.stream_options
        items = self._scheduler.stream(read_messages(request), self._budget(request, owner))
        is_first = True
        async for item in items:
            if is_first:
                yield head | _choice({"role": "assistant", "content": ""})
                is_first = False
            if isinstance(item, Answer):
                note(item)
                yield head | _choice({}, item.finish_reason)
                if options is not None and options.include_usage:
                    yield head | {"choices": [], "usage": _usage(item)}
                continue
            delta = {"reasoning_content": item.thinking, "content": item.answer}
            if known := {key: text for key, text in delta.items() if text}:
                yield head | _choice(known)

    def _head(self, kind: str) -> Body:
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": self._config.model_id or "mock",
            "revision": self._config.revision,
        }

    def _budget(self, request: ChatRequest, owner: str) -> Budget:
        """Return the request's limits within the ChatModel's own."""
        given = self._config.generation
        stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
        return generating.Budget(
            thinking=given.max_thinking_tokens,
            answer=min(request.max_tokens or given.max_new_tokens, given.max_new_tokens),
            total=request.max_completion_tokens,
            sampling=Sampling(
                given.temperature if request.temperature is None else request.temperature,
                request.top_p or given.top_p,
                given.top_k if request.top_k is None else request.top_k,
            ),
            stop=tuple(stop),
            owner=owner,
        )


def read_messages(request: ChatRequest) -> list[Message]:
    """Return the messages with the roles that chat templates know."""
    return [
        {"role": "system" if m.role == "developer" else m.role, "content": _text(m)}
        for m in request.messages
    ]


def _text(message: ChatMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    return "\n".join(part.text for part in message.content)


def _choice(delta: Body, finish_reason: str | None = None) -> Body:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {"choices": [choice]}


def _usage(answer: Answer) -> Body:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.tokens,
        "total_tokens": answer.prompt_tokens + answer.tokens,
        "completion_tokens_details": {"reasoning_tokens": answer.thinking_tokens},
    }
