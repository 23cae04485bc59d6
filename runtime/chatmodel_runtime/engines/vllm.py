"""The vllm engine: vLLM as a server of its own behind our ports, for where there is a GPU.

It is a separate program with requirements of its own: nothing of it is imported. Tokens go there
and come back over HTTP on the loopback interface; scheduling and batching are its own.
"""

import dataclasses
import json
import logging
import math
import pathlib
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import httpx2

from chatmodel_runtime.engines import BadOutput, EngineDead, Pulse, Request, Step
from chatmodel_runtime.engines.hf_tokenizer import HfTokenizer
from chatmodel_runtime.engines.vllm_process import MAX_ACTIVE, SERVED_NAME, VllmProcess
from chatmodel_runtime.errors import Failure

logger = logging.getLogger(__name__)
LOOK_SECONDS = 0.25  # between two looks whether it is loaded
CONNECT_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Patience:
    """Seconds between two looks, until it counts as stuck, for its end, between two log lines."""

    look: float = 5.0
    stuck: float = 60.0
    end: float = 5.0
    tell: float = 10.0


class VllmEngine:
    """A vLLM server and its health.

    Its steps are not seen from here, so `pulse` stands still: what tells a stuck engine is a
    `/health` that has not answered for a minute.
    """

    name = "VLLM"
    max_active = MAX_ACTIVE
    context_tokens = 0
    tokenizer: HfTokenizer

    def __init__(
        self,
        model_dir: pathlib.Path,
        command: Sequence[str] = ("vllm",),
        *,
        gpus: int = 1,
        patience: Patience | None = None,
    ) -> None:
        self.pulse = Pulse()
        self._dir = model_dir
        self._patience = patience or Patience()
        self._process = VllmProcess(command, model_dir, gpus)
        self._ends: list[int] = []
        self._stop = threading.Event()
        self._healthy_at = -math.inf
        self._is_dead = False
        # A proxy that the environment names must not see a prompt. One connection a request, so
        # that closing it cancels there.
        options: dict[str, Any] = {
            "trust_env": False,
            "headers": {"Authorization": f"Bearer {self._process.key}"},
            "limits": httpx2.Limits(max_connections=None, max_keepalive_connections=0),
        }
        self._asker = httpx2.Client(timeout=2 * self._patience.look, **options)
        unhurried = httpx2.Timeout(None, connect=CONNECT_SECONDS)
        self._client = httpx2.AsyncClient(timeout=unhurried, **options)
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def load(self) -> None:
        """Start the server and wait until it says that it is healthy, however long it takes.

        Raises `BadModel` or `TryAgain` with the server's own last error, `ConfigError` when there
        is no vLLM here, and `Failure` (Crash) when another start may do better.
        """
        try:
            self._process.start()
            # Meanwhile the server loads.
            self.tokenizer = HfTokenizer(self._dir)
            self._ends = _end_tokens(self._dir, self.tokenizer.end_token)
            self._wait_for_health()
            self.context_tokens = self._ask_context()
        except BaseException:
            self.close()
            raise
        self._process.mute()
        self._watcher.start()

    def _wait_for_health(self) -> None:
        started = told = time.monotonic()
        while not self._look():
            code = self._process.wait(LOOK_SECONDS)
            if code is not None:
                raise self._process.explain(code)
            now = time.monotonic()
            if now - told >= self._patience.tell:
                told = now
                logger.info("vLLM is loading", extra={"seconds": round(now - started, 1)})

    def _look(self) -> bool:
        """Ask the server for its health, and remember when it was well."""
        try:
            status = self._asker.get(f"{self._process.url}/health").status_code
        except httpx2.HTTPError:
            return False
        self._is_dead = status == 503  # its engine has ended; the server follows
        if status == 200:
            self._healthy_at = time.monotonic()
        return status == 200

    def _ask_context(self) -> int:
        """Return how many tokens the server has found room for."""
        try:
            answer = self._asker.get(f"{self._process.url}/v1/models").json()
            return int(answer["data"][0]["max_model_len"])
        except (httpx2.HTTPError, ValueError, KeyError, IndexError, TypeError):
            raise Failure("Crash", "the vLLM server does not say what it serves") from None

    def _watch(self) -> None:
        while not self._stop.wait(self._patience.look):
            if not self._process.is_running():
                logger.error("the vLLM server has ended", extra={"code": self._process.wait(0)})
                return
            self._look()

    async def submit(self, request: Request) -> AsyncGenerator[Step]:
        """Generate until an end token or `max_tokens`; closing the generator cancels.

        Raises `EngineDead` and `BadOutput`.
        """
        url = f"{self._process.url}/v1/completions"
        try:
            asked = self._client.stream("POST", url, json=self._body(request))
            async with asked as response:
                if response.status_code != 200:
                    raise EngineDead(f"the vLLM server answered {response.status_code}")
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        step = self._read(line)
                        yield step
                        if step.finish_reason is not None:
                            return
        except httpx2.HTTPError as error:
            # Not "from": nothing of a request may get into a trace.
            raise EngineDead(f"the vLLM server failed: {type(error).__name__}") from None
        raise EngineDead("the vLLM server ended a stream early")

    def _body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        return {
            "model": SERVED_NAME,
            "prompt": request.prompt,
            "max_tokens": request.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "stop_token_ids": self._ends,
            "stream": True,
            "return_token_ids": True,
            # Of the chosen token alone: it tells an output that is not a number from any other.
            "logprobs": 0,
            "return_tokens_as_token_ids": True,
            # Prefixes are not kept at all (vllm_process); should they ever be, nobody shares them.
            "cache_salt": secrets.token_hex(32),
        }

    def _read(self, line: str) -> Step:
        try:
            choice = json.loads(line.removeprefix("data: "))["choices"][0]
            tokens, reason = list(choice["token_ids"]), choice["finish_reason"]
            chances = choice["logprobs"]["token_logprobs"] if tokens else []
            is_broken = any(chance is None or math.isnan(chance) for chance in chances)
        except (ValueError, KeyError, IndexError, TypeError):
            raise EngineDead("the vLLM server answered something else than tokens") from None
        if is_broken:
            raise BadOutput("the model's output is not a number")
        if reason not in (None, "stop", "length"):
            raise EngineDead("the vLLM server gave a request up")
        if reason == "stop" and tokens and tokens[-1] in self._ends:
            tokens.pop()
        return Step(tokens, reason)

    def is_alive(self) -> bool:
        """Say whether the server runs, and has been well in the last minute."""
        is_stuck = time.monotonic() - self._healthy_at > self._patience.stuck
        return self._process.is_running() and not self._is_dead and not is_stuck

    def close(self) -> None:
        """End the server, and every process it has started."""
        self._stop.set()
        self._process.close(self._patience.end)
        if self._watcher.ident is not None:
            self._watcher.join()


def _end_tokens(folder: pathlib.Path, of_tokenizer: int | None) -> list[int]:
    """Return what ends the model's answers, as its own files say."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        ends = json.loads(path.read_text()).get("eos_token_id") if path.exists() else None
        if ends is not None:
            break
    found = [*(ends if isinstance(ends, list) else [ends]), of_tokenizer]
    return sorted({end for end in found if end is not None})
