"""The process in which the OpenVINO model runs: `engines.openvino_process` starts it.

    python -m chatmodel_runtime.engines.openvino_worker FD

Why a process: a step holds Python's lock for as long as it takes, so that in the server's own
process nothing would be answered meanwhile. Requests come and tokens go as JSON over the socket FD;
when its other end is gone, so is this process. It says nothing anywhere else.
"""

import json
import math
import multiprocessing.connection
import pathlib
import random
import sys
import tempfile
from typing import Any

from chatmodel_runtime.engines.openvino_tokenizer import describe, import_library

Message = dict[str, Any]
MAX_TRIES = 2  # in the second nothing is left of what was cancelled before the first


class NoNumber(Exception):
    """The model's output is not a number."""


class Generation:
    """One request: what was asked, its handle, and what it has given so far."""

    def __init__(self, asked: Message) -> None:
        self.asked = asked
        self.made: list[int] = []
        self.tries = 0  # times it was put in since it last got a token
        self.handle: Any = None


class Worker:
    """The pipeline, and the requests it works on."""

    def __init__(self, options: Message) -> None:
        self._library = import_library()
        self._ends: list[int] = options["ends"]
        self._running: dict[int, Generation] = {}
        scheduler = self._library.SchedulerConfig()
        scheduler.num_kv_blocks = options["blocks"]
        scheduler.max_num_seqs = options["active"]
        scheduler.max_num_batched_tokens = options["batch"]
        scheduler.enable_prefix_caching = False  # docs/decisions/0006-openvino.md
        # The pipeline wants a tokenizer for stop words, which are ours. That of an empty folder is
        # none: it saves seconds and memory.
        with tempfile.TemporaryDirectory() as empty:
            tokenizer = self._library.Tokenizer(empty)
        self._pipeline = self._library.ContinuousBatchingPipeline(
            options["model"], tokenizer, scheduler, "CPU", **_properties(options["threads"])
        )

    def warm_up(self) -> None:
        """Generate a token, with its probability: that is where what is no number shows."""
        config = self._config({"most": 1, "temperature": 0})
        config.logprobs = 1
        handle = self._add([0, 1, 2, 3], config)
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        chances = [chance for made in _read(handle) for chance in made.generated_log_probs]
        if not chances or not all(map(math.isfinite, chances)):
            raise NoNumber("the model's output is not a number")

    def take(self, message: Message) -> None:
        """Do as a message says: a request begins, or its client has left."""
        if "leave" in message:
            left = self._running.pop(message["leave"], None)
            if left is not None:
                left.handle.cancel()
            return
        generation = Generation(message)
        self._running[message["add"]] = generation
        self._put_in(generation)

    def has_work(self) -> bool:
        """Say whether a step would do something; also to let go of what was cancelled."""
        return bool(self._pipeline.has_non_finished_requests())

    def step(self) -> list[tuple[int, list[int], str | None]]:
        """Work a step and return (request, tokens, why it ended) of all that got something."""
        self._pipeline.step()
        outcomes = []
        for name, generation in list(self._running.items()):
            tokens, reason = self._outcome(generation)
            if reason is not None:
                del self._running[name]
            if tokens or reason is not None:
                outcomes.append((name, tokens, reason))
        return outcomes

    def _outcome(self, generation: Generation) -> tuple[list[int], str | None]:
        parts = _read(generation.handle)
        tokens = [token for part in parts for token in part.generated_ids]
        if tokens:
            generation.made += tokens
            generation.tries = 0
        reasons = self._library.GenerationFinishReason
        reason = parts[-1].finish_reason if parts else reasons.NONE
        if reason == reasons.STOP:
            return (tokens[:-1] if tokens[-1:] and tokens[-1] in self._ends else tokens), "stop"
        if reason == reasons.LENGTH:
            return tokens, "length"
        if generation.handle.get_status() == self._library.GenerationStatus.IGNORED:
            self._put_in(generation)
        return tokens, None

    def _put_in(self, generation: Generation) -> None:
        """Put a request in, or put it in again: the library drops some when memory is short.

        It does so when a step finds no room for anybody, as when all of it belongs to a request
        that was cancelled but is not cleared away yet.
        """
        if generation.tries == MAX_TRIES and len(self._running) == 1:
            raise MemoryError("a request that is alone finds no room")
        generation.tries += 1
        made = generation.made
        asked = generation.asked | {"most": generation.asked["most"] - len(made)}
        generation.handle = self._add(asked["prompt"] + made, self._config(asked))

    def _add(self, prompt: list[int], config: Any) -> Any:
        import numpy
        import openvino  # type: ignore[import-untyped]

        tokens = openvino.Tensor(numpy.array([prompt], dtype=numpy.int64))
        return self._pipeline.add_request(random.getrandbits(62), tokens, config)

    def _config(self, asked: Message) -> Any:
        config = self._library.GenerationConfig()
        config.max_new_tokens = asked["most"]
        # Without an end token it would look for the number -1, and refuse that.
        ends = self._ends or [0]
        config.eos_token_id, config.stop_token_ids = ends[0], set(ends)
        config.ignore_eos = not self._ends
        if asked["temperature"] > 0:
            config.do_sample = True
            config.temperature, config.top_p = asked["temperature"], asked["top_p"]
            config.rng_seed = random.getrandbits(32)  # else all would draw the same
            if asked["top_k"] > 0:
                config.top_k = asked["top_k"]
        return config


def _properties(threads: int) -> dict[str, Any]:
    found = {
        "INFERENCE_NUM_THREADS": threads,
        "sampler_num_threads": threads,
        "KV_CACHE_PRECISION": "f16",
    }
    if threads == 1:
        # Compiling a model of 16 bits for one thread divides by zero where the processor has
        # bfloat16 (seen with 2026.4.1); and with 32 bits one thread makes tokens faster.
        found["INFERENCE_PRECISION_HINT"] = "f32"
    return found


def _read(handle: Any) -> list[Any]:
    parts = []
    while handle.can_read():
        parts += handle.read().values()
    return parts


def main(fd: int) -> None:
    """Load, say how that went, and work until the other end is gone."""
    with multiprocessing.connection.Connection(fd) as server:

        def say(message: Message) -> None:
            server.send_bytes(json.dumps(message).encode())

        options = json.loads(server.recv_bytes())
        try:
            worker = Worker(options)
            worker.warm_up()
        except Exception as error:  # whatever a library raises on a bad file, the model is bad
            say({"failed": describe(error)})
            return
        say({"ready": pathlib.Path(options["model"]).name})
        while True:
            while server.poll() or not worker.has_work():
                worker.take(json.loads(server.recv_bytes()))
            say({"steps": worker.step()})


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except (EOFError, ConnectionError):
        sys.exit(0)  # the server is gone
