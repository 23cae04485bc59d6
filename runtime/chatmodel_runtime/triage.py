"""The story of one triage request: find the patient, build the prompt, generate, answer.

Called by `app`. Logs sizes and outcomes, never what was asked, answered, or about whom.
"""

import time
from collections.abc import Awaitable, Callable

from chatmodel_runtime import answers, chat_log, generating, patients, prompts, scheduling
from chatmodel_runtime.engines import Sampling
from chatmodel_runtime.schemas.triage import TriageRequest, TriageResponse, Usage
from chatmodel_runtime.settings import ServeConfig


class EmptyAnswer(Exception):
    """The model said nothing within its limits."""


class Triage:
    """Answers triage requests with one model."""

    def __init__(
        self,
        config: ServeConfig,
        source: patients.PatientSource,
        scheduler: scheduling.Scheduler,
        log: chat_log.ChatLog | None = None,
    ) -> None:
        self._config = config
        self._patients = source
        self._log = log
        self._scheduler = scheduler
        given = config.generation
        self._budget = generating.Budget(
            thinking=given.max_thinking_tokens,
            answer=given.max_new_tokens,
            sampling=Sampling(given.temperature, given.top_p, given.top_k),
        )

    async def answer(
        self, request: TriageRequest, trace_id: str, is_gone: Callable[[], Awaitable[bool]]
    ) -> TriageResponse:
        """Return the answer to one request.

        Raises what `patients` and `scheduling` raise, and `EmptyAnswer`.
        """
        asked, started = time.time(), time.perf_counter()
        summary = await self._patients.find(request.patient_mrn)
        messages = prompts.build_triage_messages(request.query, summary)
        made = await self._scheduler.answer(messages, self._budget, is_gone)
        if not made.text:
            raise EmptyAnswer
        answer = TriageResponse(
            trace_id=trace_id,
            patient_mrn=request.patient_mrn,
            query=request.query,
            llm_mode=self._config.mode,
            response=made.text,
            inference_time_ms=round((time.perf_counter() - started) * 1000, 3),
            conversation_id=None if self._log is None else chat_log.new_conversation_id(),
            urgency=answers.urgency_of(request.query),
            finish_reason=made.finish_reason,
            thinking_truncated=made.thinking_truncated,
            usage=Usage(prompt_tokens=made.prompt_tokens, completion_tokens=made.tokens),
            model=self._config.model_id or "mock",
            revision=self._config.revision,
            degraded=made.finish_reason == "length" or made.thinking_truncated,
            safety_note=answers.SAFETY_NOTE,
        )
        self._write_down(answer, asked)
        return answer

    def _write_down(self, answer: TriageResponse, asked: float) -> None:
        """Offer the answer to the chat log of the patient API, if there is one; never waits."""
        if self._log is None or answer.conversation_id is None:
            return
        entry = chat_log.Entry(
            trace_id=answer.trace_id,
            conversation_id=answer.conversation_id,
            patient_mrn=answer.patient_mrn,
            query=answer.query,
            response=answer.response,
            llm_mode=answer.llm_mode,
            inference_time_ms=answer.inference_time_ms,
            asked=asked,
            answered=time.time(),
        )
        self._log.offer(entry)

    async def close(self) -> None:
        """Send what is left of the chat log, then close connections."""
        if self._log is not None:
            await self._log.close()
        await self._patients.close()
