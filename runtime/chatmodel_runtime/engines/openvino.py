"""The OpenVINO engine: a published IR or one GGUF file on CPU, batched by OpenVINO GenAI.

The model runs in a process of its own (`openvino_worker` says why), its tokenizer here. The library
is imported inside functions: importing this module is cheap.
"""

import asyncio
import pathlib
from collections.abc import AsyncGenerator

from chatmodel_runtime.engines import EngineDead, Pulse, Request, Step, machine, openvino_files
from chatmodel_runtime.engines.openvino_process import EngineProcess
from chatmodel_runtime.engines.openvino_tokenizer import GenAiTokenizer

BLOCK_TOKENS = 32  # the library's, on CPU
BATCH_TOKENS = 512  # so that a long prompt does not hold up the answers under way
KV_TOKENS = 32_768
MAX_ACTIVE = 32


class OpenVINOEngine:
    """A model in a process of its own, one batch of requests a step.

    The key-value cache has 16 bits: the library's 8 bits changed answers of a small model, and were
    no faster. Output that is no number is found while loading; later the library hides it.
    """

    name = "OpenVINO"
    max_active = MAX_ACTIVE
    context_tokens = 0
    tokenizer: GenAiTokenizer

    def __init__(self, model_dir: pathlib.Path, threads: int | None = None) -> None:
        self.pulse = Pulse()
        self._dir = model_dir
        self._threads = threads or machine.count_threads()
        self._process: EngineProcess | None = None

    def load(self) -> None:
        """Load model and tokenizer from disk alone, side by side.

        Raises `BadModel`: EngineUnsupported, InsufficientMemory, ChatTemplateMissing,
        UnsafeModelContent or ModelLoadFailed; `TryAgain`: InsufficientStorage.
        """
        found = openvino_files.find(self._dir)
        room = machine.kv_tokens(
            machine.memory_limit(), found.weights, found.kv_bytes, wished=KV_TOKENS
        )
        with openvino_files.open_to_writing(found.path) as path:
            self._load(found, path, room // BLOCK_TOKENS)

    def _load(self, found: openvino_files.Found, path: pathlib.Path, blocks: int) -> None:
        options = {
            "model": str(path),
            "threads": self._threads,
            "blocks": blocks,
            "active": MAX_ACTIVE,
            "batch": BATCH_TOKENS,
            "ends": found.ends,
        }
        self._process = EngineProcess(options, self.pulse)
        try:
            self.tokenizer = GenAiTokenizer(path)
            # One block is always in the making.
            most = min(found.context_tokens or KV_TOKENS, (blocks - 1) * BLOCK_TOKENS)
            self.context_tokens = self.tokenizer.longest(most)
            self._process.wait_until_ready()
        except BaseException:
            self.close()
            raise

    async def submit(self, request: Request) -> AsyncGenerator[Step]:
        """Generate until an end token or `max_tokens`; closing the generator cancels.

        Raises `EngineDead`.
        """
        if self._process is None:
            raise EngineDead("the engine is not loaded")
        steps: asyncio.Queue[Step | None] = asyncio.Queue()
        name = self._process.add(request, steps.put_nowait)
        try:
            while True:
                step = await steps.get()
                if step is None:
                    raise EngineDead("the engine's process has ended")
                yield step
                if step.finish_reason is not None:
                    return
        finally:
            self._process.leave(name)

    def is_alive(self) -> bool:
        """Say whether the model's process runs."""
        return self._process is not None and self._process.is_alive()

    def close(self) -> None:
        """End the model's process."""
        if self._process is not None:
            self._process.close()
