"""The server's end of the process that `engines.openvino_worker` is.

Called by `engines.openvino`. One thread reads what the process says and brings it to the event
loop, all of a step in one call; another writes, so that a full pipe holds up nobody.
"""

import asyncio
import concurrent.futures
import contextlib
import itertools
import json
import multiprocessing.connection
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

from chatmodel_runtime.engines import EngineDead, Pulse, Request, Step
from chatmodel_runtime.errors import BadModel

Give = Callable[[Step | None], None]
WORKER = "chatmodel_runtime.engines.openvino_worker"
# What it needs; it gets no configuration, no token and no key.
ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "TMPDIR", "PYTHONDONTWRITEBYTECODE")
SECONDS_TO_END = 5


class EngineProcess:
    """A process that works on requests until it is closed, or dies."""

    def __init__(self, options: dict[str, Any], pulse: Pulse) -> None:
        self._pulse = pulse
        self._takers: dict[int, tuple[asyncio.AbstractEventLoop, Give]] = {}
        self._names = itertools.count()
        self._is_dead = False
        self._writer = concurrent.futures.ThreadPoolExecutor(1, "openvino-writer")
        self._reader = threading.Thread(target=self._read, name="openvino-reader", daemon=True)
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", WORKER, str(theirs.fileno())],
                env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # a library could write what it was asked
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a signal to the server lets it finish what runs
            )
        self._connection = multiprocessing.connection.Connection(ours.detach())
        self._say(options)

    def wait_until_ready(self) -> None:
        """Wait until the model is loaded. Raises `BadModel`."""
        try:
            said = json.loads(self._connection.recv_bytes())
        except (EOFError, ConnectionError):
            raise self._describe_end() from None
        if "failed" in said:
            raise BadModel("ModelLoadFailed", f"OpenVINO does not load it: {said['failed']}")
        self._reader.start()

    def _describe_end(self) -> BadModel:
        code = self._process.wait()
        if code == -signal.SIGKILL:  # nobody but the kernel does that
            text = "the process that loads the model was killed: it took more memory than there is"
            return BadModel("InsufficientMemory", text)
        return BadModel("ModelLoadFailed", f"the process that loads the model ended with {code}")

    def add(self, request: Request, give: Give) -> int:
        """Begin a request; `give` is called in the running loop, with None when all is over.

        Raises `EngineDead`.
        """
        name = next(self._names)
        self._takers[name] = (asyncio.get_running_loop(), give)
        if self._is_dead:  # looked at after the entry: the reader does it the other way round
            self._takers.pop(name, None)
            raise EngineDead("the engine's process has ended")
        if self._pulse.began is None:
            self._pulse.begin()
        sampling = request.sampling
        self._say(
            {
                "add": name,
                "prompt": request.prompt,
                "most": request.max_tokens,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
            }
        )
        return name

    def leave(self, name: int) -> None:
        """Cancel a request; its place is free after the step under way."""
        if self._takers.pop(name, None) is not None and not self._is_dead:
            self._say({"leave": name})

    def is_alive(self) -> bool:
        """Say whether the process runs and is listened to."""
        return not self._is_dead and self._process.poll() is None and self._reader.is_alive()

    def close(self) -> None:
        """End the process."""
        self._is_dead = True
        self._process.terminate()
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._reader.is_alive():
            self._reader.join()
        self._writer.shutdown()
        self._connection.close()

    def _say(self, message: dict[str, Any]) -> None:
        def write() -> None:
            with contextlib.suppress(OSError):  # it is gone, as the reader finds out too
                self._connection.send_bytes(json.dumps(message).encode())

        self._writer.submit(write)

    def _read(self) -> None:
        """Bring what the process says to those who wait for it, until it ends."""
        try:
            while True:
                said = json.loads(self._connection.recv_bytes())
                self._pulse.end()
                self._hand_out(said["steps"])
                if self._takers:
                    self._pulse.begin()
        except (EOFError, OSError):
            self._is_dead = True
            self._pulse.end()
            for name in list(self._takers):
                if taker := self._takers.pop(name, None):
                    _give(taker[0], [(taker[1], None)])

    def _hand_out(self, steps: list[tuple[int, list[int], Any]]) -> None:
        gifts: dict[asyncio.AbstractEventLoop, list[tuple[Give, Step | None]]] = {}
        for name, tokens, reason in steps:
            taker = self._takers.get(name) if reason is None else self._takers.pop(name, None)
            if taker is not None:
                gifts.setdefault(taker[0], []).append((taker[1], Step(tokens, reason)))
        for loop, of_loop in gifts.items():
            _give(loop, of_loop)


def _give(loop: asyncio.AbstractEventLoop, gifts: list[tuple[Give, Step | None]]) -> None:
    def give_all() -> None:
        for give, step in gifts:
            give(step)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(give_all)
