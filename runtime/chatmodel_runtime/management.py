"""The management port: liveness, readiness, verification, progress, metrics. In no Service.

Served by a thread and an event loop of its own (`server`), so that probes are answered whatever the
main loop has to do: docs/decisions/0007. What is read here is a word, or locks itself; all else is
handed to the main loop.

`/verify` takes no input: it asks the loaded model a fixed question through the same prompt, engine
and splitter as real requests, and says who answered.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import fastapi
from fastapi.responses import JSONResponse, Response

from chatmodel_runtime import draining, generating, metrics, prompts, scheduling, tracing
from chatmodel_runtime.engines import Sampling
from chatmodel_runtime.settings import ServeConfig

BUDGET = generating.Budget(thinking=8, answer=16, sampling=Sampling())
SECONDS = 110
# The kubelet is answered the moment the model is ready, instead of up to a period later; what it
# asks before that is held until its next probe is due.
HOLD_SECONDS = 0.9 * draining.PROBE_SECONDS
SILENT_SECONDS = 10.0  # what the kubelet would wait for an answer of the main loop itself

T = TypeVar("T")


class MainLoop:
    """The event loop that answers requests, as the management port's thread sees it.

    Made in that loop, where it beats ten times in `silent_seconds`; when none has come for so long,
    the loop hangs, whatever the engine does.
    """

    def __init__(self, silent_seconds: float = SILENT_SECONDS) -> None:
        self._loop = asyncio.get_running_loop()
        self._silent_seconds = silent_seconds
        self._beat()

    def _beat(self) -> None:
        self._beaten = time.monotonic()
        self._loop.call_later(self._silent_seconds / 10, self._beat)

    def is_silent(self) -> bool:
        """Say whether the loop has not turned for too long."""
        return time.monotonic() - self._beaten > self._silent_seconds

    async def ask(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the work in that loop, from any other, and return its result."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


class Verifier:
    """Asks the fixed question, one at a time, ahead of the public queue; in the main loop."""

    def __init__(self, config: ServeConfig, scheduler: scheduling.Scheduler) -> None:
        self._config = config
        self._scheduler = scheduler
        self._lock = asyncio.Lock()

    async def ask(self) -> int:
        """Return the tokens of the answer. Raises `ValueError` when it is empty."""
        messages = prompts.build_triage_messages(prompts.VERIFICATION_QUERY, None)
        async with self._lock, asyncio.timeout(SECONDS):
            made = await self._scheduler.answer(messages, BUDGET, ahead=True)
        if not made.text:
            raise ValueError("the answer was empty")
        return made.tokens

    async def verify(self) -> tuple[int, dict[str, Any]]:
        """Return HTTP status and body of a verification."""
        started = time.perf_counter()
        try:
            tokens = await self.ask()
        except Exception as error:  # whatever went wrong is the answer to this question
            message = f"no answer: {type(error).__name__}"
            return 503, {"ok": False, "reason": "VerificationFailed", "message": message}
        config = self._config
        return 200, {
            "ok": True,
            "chatModel": config.chat_model,
            "revision": config.revision,
            "mode": config.mode,
            "modelID": config.model_id,
            "commit": config.commit,
            "engine": config.engine,
            "tokens": tokens,
            "seconds": round(time.perf_counter() - started, 3),
            "cases": 1,
        }


def build_serve_app(
    scheduler: scheduling.Scheduler,
    verifier: Verifier,
    main_loop: MainLoop,
    drain: draining.Drain,
) -> fastapi.FastAPI:
    """Return the management application of `serve`; it may run in another loop than the rest."""
    app = fastapi.FastAPI(openapi_url=None, telemetry=tracing.OFF)

    @app.get("/livez")
    async def livez() -> JSONResponse:
        state = "hanging" if main_loop.is_silent() else "failed" if scheduler.is_broken() else "ok"
        return JSONResponse({"status": state}, 200 if state == "ok" else 503)

    @app.get("/readyz")
    async def readyz(request: fastapi.Request) -> JSONResponse:
        agent = request.headers.get("user-agent", "")
        await _hold_the_kubelet(agent, scheduler)
        state: str = scheduler.state
        if drain.is_leaving():
            state = "leaving"
            drain.note_probe(agent)
        if main_loop.is_silent():
            state = "hanging"
        return JSONResponse({"status": state}, 200 if state == "ready" else 503)

    @app.get("/metrics")
    async def expose() -> Response:
        return Response(scheduler.metrics.expose(), media_type=metrics.CONTENT_TYPE)

    @app.post("/verify")
    async def verify() -> JSONResponse:
        if scheduler.state != "ready":
            body = {"ok": False, "reason": "VerificationFailed", "message": scheduler.state}
            return JSONResponse(body, 503)
        status, body = await main_loop.ask(verifier.verify())
        return JSONResponse(body, status)

    return app


async def _hold_the_kubelet(agent: str, scheduler: scheduling.Scheduler) -> None:
    if scheduler.state == "starting" and agent.startswith(draining.KUBELET):
        await asyncio.wait([asyncio.wrap_future(scheduler.started)], timeout=HOLD_SECONDS)


def build_progress_app(read: Callable[[], dict[str, Any]]) -> fastapi.FastAPI:
    """Return the management application of `stage`: how far the download is."""
    app = fastapi.FastAPI(openapi_url=None, telemetry=tracing.OFF)

    @app.get("/progress")
    async def progress() -> dict[str, Any]:
        return read()

    return app
