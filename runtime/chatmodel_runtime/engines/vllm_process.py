"""The vLLM server as a child process: its command, its surroundings, its words and its end.

Called by `engines.vllm` alone. Its key is in its environment, never among its arguments; what it
writes may hold text of users once it is asked, so from then on only level and place are told.
"""

import builtins
import contextlib
import logging
import os
import pathlib
import re
import secrets
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence

from chatmodel_runtime.errors import BadModel, ConfigError, Failure, TryAgain

logger = logging.getLogger(__name__)
HOST = "127.0.0.1"
SERVED_NAME = "model"
MAX_ACTIVE = 256
MEMORY_SHARE = 0.9  # of the GPU's memory: weights, KV cache and activations together
LONGEST_LINE = 4096
LONGEST_TEXT = 300
READ_SECONDS = 5.0
_KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
_KEPT_FAMILIES = ("CUDA_", "NVIDIA_", "NCCL_")
_SWITCHES = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_PLUGINS": "",  # whatever else is installed stays out of the process
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOGGING_COLOR": "0",
    "NO_COLOR": "1",
    "PYTHONUNBUFFERED": "1",
    "USER": "chatmodel",  # PyTorch names a folder after it, and a pod's user is in no list
}
# As vLLM's logger and its HTTP server's write: (process pid=1) LEVEL 01-31 12:00:00 [file:1] text
_LINE = re.compile(
    r"(?:\([^)]{1,60} pid=\d+\) )?(WARNING|ERROR|CRITICAL):? +"
    r"(?:\d\d-\d\d [\d:]{8} )?(?:\[([\w./-]{1,100}:\d+)\] )?(.*)"
)
_ERROR = re.compile(r"[\w.]*(?:Error|Exception)\b.*|Value error, .*|.*\berror: .*")
_POINTERS = ("root cause above", "stack trace")  # lines that say to read other lines
_KINDS = {name for name in vars(builtins) if name.endswith("Error")} | {"OutOfMemoryError"}
_KIND = re.compile(r"[\w.]{0,60}?(\w{3,60}Error)\b")
# The words of its errors → what they mean; the first that fits. None: another start may do better.
_MEANINGS: tuple[tuple[str, str | None], ...] = (
    (r"No space left on device", "InsufficientStorage"),
    (r"Free memory on device|infer device type|CUDA driver|No CUDA|Address already in use", None),
    (
        r"out of memory|OutOfMemory|not enough GPU memory|No available memory for the cache"
        r"|To serve at least one request",
        "InsufficientMemory",
    ),
    (r"not supported|does not recognize this architecture", "EngineUnsupported"),
)


def build_command(
    command: Sequence[str], model_dir: pathlib.Path, port: int, gpus: int
) -> list[str]:
    """Return the arguments of `vllm serve`; nothing of them is secret."""
    options = [
        *("serve", str(model_dir)),
        *("--host", HOST),
        *("--port", str(port)),
        *("--served-model-name", SERVED_NAME),
        *("--max-model-len", "auto"),  # the model's own, or as much as the GPU has room for
        *("--max-num-seqs", str(MAX_ACTIVE)),
        *("--gpu-memory-utilization", str(MEMORY_SHARE)),
        *("--load-format", "safetensors"),
        *("--generation-config", "vllm"),  # how tokens are chosen is said by each request
        "--no-enable-prefix-caching",
        "--no-trust-remote-code",
        "--no-enable-log-requests",
        "--disable-uvicorn-access-log",
        *("--uvicorn-log-level", "warning"),
        "--disable-fastapi-docs",
    ]
    split = ["--tensor-parallel-size", str(gpus)] if gpus > 1 else []
    return [*command, *options, *split]


def build_environment(env: Mapping[str, str], key: str, home: str) -> dict[str, str]:
    """Return the server's environment: no token and no setting of ours, caches under `home`."""
    kept = {
        name: value
        for name, value in env.items()
        if name in _KEPT or name.startswith(_KEPT_FAMILIES)
    }
    folders = {"HOME": home, "TMPDIR": home, "XDG_CACHE_HOME": f"{home}/.cache"}
    return kept | _SWITCHES | folders | {"VLLM_API_KEY": key}


class VllmProcess:
    """One server, from start to end, with everything that it starts itself."""

    def __init__(self, command: Sequence[str], model_dir: pathlib.Path, gpus: int) -> None:
        self.key = secrets.token_urlsafe(32)
        self.url = ""
        self._command = command
        self._dir = model_dir
        self._gpus = gpus
        self._home: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_over = False
        self._is_asked = False
        self._error = ""
        self._told: object = None

    def start(self) -> None:
        """Start the server. Raises `ConfigError` when this image has none."""
        with self._lock:  # it may be closed in the same moment, by another thread
            if self._is_over:
                raise Failure("Crash", "closed before it was started")
            port = _free_port()
            self.url = f"http://{HOST}:{port}"
            self._home = tempfile.TemporaryDirectory(prefix="vllm-", ignore_cleanup_errors=True)
            try:
                self._process = subprocess.Popen(
                    build_command(self._command, self._dir, port, self._gpus),
                    env=build_environment(os.environ, self.key, self._home.name),
                    cwd=self._home.name,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                text = f"cannot start {self._command[0]}: {error.strerror}"
                raise ConfigError(text) from error
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, seconds: float) -> int | None:
        """Return the exit code as soon as there is one; None after so many seconds."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def is_running(self) -> bool:
        """Say whether the server has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def mute(self) -> None:
        """Tell no more of its words: from now on it is asked."""
        self._is_asked = True

    def explain(self, code: int) -> Failure:
        """Return why the server has ended while it loaded; ends what it has left."""
        self.close(0)
        if code < 0:
            return Failure("Crash", f"the vLLM server was ended by signal {-code}")
        text = self._error or f"the vLLM server ended with {code}"
        for words, reason in _MEANINGS:
            if re.search(words, text):
                return _failure(reason, text)
        return BadModel("ModelLoadFailed", text) if self._error else Failure("Crash", text)

    def close(self, patience: float) -> None:
        """End the server and all that it has started: asked first, after so many seconds forced."""
        with self._lock:
            was_over, self._is_over = self._is_over, True
        if was_over:
            return
        if self._process is not None:
            if patience and self.is_running():
                _signal(self._process.pid, signal.SIGTERM)
                self.wait(patience)
            _signal(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._reader is not None:
            self._reader.join(READ_SECONDS)
        if self._home is not None:
            self._home.cleanup()

    def _read(self) -> None:
        """Read what the server writes until it ends; never more of a line than it may have."""
        assert self._process is not None and self._process.stdout is not None
        is_rest = False
        with self._process.stdout as stream:
            while line := stream.readline(LONGEST_LINE):
                if not is_rest:
                    self._note(line.decode(errors="replace").rstrip())
                is_rest = not line.endswith(b"\n")

    def _note(self, line: str) -> None:
        found = _LINE.match(line)
        text = found[3] if found else line
        if self._is_asked:
            kind = _KIND.match(text)
            text = kind[1] if kind and kind[1] in _KINDS else ""
        elif _ERROR.match(text.strip()) and not any(words in text for words in _POINTERS):
            self._error = text.strip()[:LONGEST_TEXT]
        if found:
            self._tell(logging.getLevelNamesMapping()[found[1]], found[2], text[:LONGEST_TEXT])

    def _tell(self, level: int, place: str | None, text: str) -> None:
        told = (level, place, text)
        if told != self._told:  # each line of a trace has the same place
            logger.log(level, text or "text kept back", extra={"at": place})
        self._told = told


def _failure(reason: str | None, text: str) -> Failure:
    if reason is None:
        return Failure("Crash", text)
    return TryAgain(reason, text) if reason == "InsufficientStorage" else BadModel(reason, text)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        port: int = taken.getsockname()[1]
    return port


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
