"""The servers that are compared: how each is started, on which weights, with how many threads.

Called by `runtime_models`. All get the same two files made of one: SmolLM2-135M-Instruct as the
package has it (GGUF, 4 bits), and its tensors in bfloat16.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping

import environments
import processes

HERE = pathlib.Path(__file__).parent
STREAMS = 16  # answers at once that every server is told to make room for
KV_TOKENS = 32_768  # what our engines take where memory allows; the same for those that are told
SERVE_BLOCK_TOKENS = 256  # of `transformers serve`, when nothing is said
OURS, OURS_BF16 = "ours-auto-gguf", "ours-auto-safetensors"
SERVE, LLAMA, VLLM = "transformers-serve", "llama.cpp", "vllm"
FOUR, SIXTEEN = "4-bit (GGUF Q4_1)", "bfloat16"
MODEL_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
LIMIT = 2 * 2**30  # bytes: the memory limit of the default InstanceClass, `small`
# The runtime reads its limit where a container has it; nothing is enforced.
TELL_LIMIT = 'mount --bind "$0" /sys/fs/cgroup && exec "$@"'


@dataclasses.dataclass(frozen=True)
class Models:
    """Staged folders, complete with manifest and marker."""

    gguf: pathlib.Path
    safetensors: pathlib.Path

    @property
    def gguf_file(self) -> pathlib.Path:
        """Return the one GGUF file."""
        return next(self.gguf.glob("*.gguf"))


@dataclasses.dataclass(frozen=True)
class Launch:
    """A command that serves on `port`; ready when `path` of `ready_port` answers."""

    command: list[str]
    env: dict[str, str]
    port: int
    ready_port: int
    path: str
    model: str = MODEL_ID  # as requests have to name it


@dataclasses.dataclass(frozen=True)
class Contender:
    """A server; `seconds` is how long its start may take."""

    name: str
    title: str
    weights: str
    launch: Callable[[Models], Launch]
    seconds: float = 120


@dataclasses.dataclass(frozen=True)
class Served:
    """A contender that is ready to be asked."""

    contender: Contender
    running: processes.Running
    port: int
    model: str


@contextlib.contextmanager
def serve(contender: Contender, models: Models, folder: pathlib.Path) -> Iterator[Served]:
    """Run a contender with the block.

    Raises `environments.NotInstalled` and `processes.DidNotStart`.
    """
    launch = contender.launch(models)
    url = f"http://127.0.0.1:{launch.ready_port}{launch.path}"
    log = folder / f"{contender.name}.log"
    with processes.run(launch.command, launch.env, url, log, contender.seconds) as running:
        yield Served(contender, running, launch.port, launch.model)


def threads() -> int:
    """Return the CPUs this process may use: what every server is told, or finds itself."""
    return len(os.sched_getaffinity(0))


def launch_ours(folder: pathlib.Path, *, limit: int = LIMIT, engine: str = "Auto") -> Launch:
    """Return our own server for a staged folder, told a memory limit in bytes."""
    config = {
        "command": "serve",
        "chatModel": "bench",
        "revision": "bench-1",
        "mode": "huggingface",
        "modelID": MODEL_ID,
        "engine": engine,
        "modelDir": str(folder),
        "auth": {"mode": "None"},
        "limits": {"maxConcurrentRequests": STREAMS, "drainSeconds": 0},
    }
    return build_ours(config, limited(limit))


def build_ours(config: Mapping[str, object], before: list[str]) -> Launch:
    """Return our own server with a configuration, its command after another one's."""
    port, management = processes.free_port(), processes.free_port()
    env = {
        "CHATMODEL_CONFIG": json.dumps(config),
        "CHAT_API_PORT": str(port),
        "MANAGEMENT_PORT": str(management),
    }
    command = [*before, sys.executable, "-m", "chatmodel_runtime", "serve"]
    return Launch(command, env, port, management, "/readyz")


def limited(limit: int) -> list[str]:
    """Return the beginning of a command that sees this limit as a container sees its own."""
    folder = environments.cache_folder() / "limits" / str(limit)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    how = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *how, "--mount", "sh", "-c", TELL_LIMIT, str(folder)]


def launch_llama(models: Models) -> Launch:
    """Return llama.cpp's server."""
    port = processes.free_port()
    python = environments.python_of(environments.LLAMA)
    told = [str(port), str(models.gguf_file), str(threads()), str(STREAMS)]
    command = [str(python), str(HERE / "llama_server.py"), *told]
    return Launch(command, {}, port, port, "/health")


def launch_serve(models: Models) -> Launch:
    """Return `transformers serve` with continuous batching, and the room that our engine has."""
    port = processes.free_port()
    python = environments.python_of(environments.SERVE)
    start = "from transformers.cli.transformers import main; main()"
    options = ["--continuous-batching", "--cb-num-blocks", str(KV_TOKENS // SERVE_BLOCK_TOKENS)]
    options += ["--host", "127.0.0.1", "--port", str(port)]
    model = str(models.safetensors)
    command = [str(python), "-c", start, "serve", model, *options]
    return Launch(command, {"HF_HUB_OFFLINE": "1"}, port, port, "/health", model)


def launch_vllm(models: Models) -> Launch:
    """Return vLLM, compiled as it is by default."""
    port = processes.free_port()
    python = environments.python_of(environments.VLLM)
    cache = environments.cache_folder() / "vllm-cache"
    env = {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB, 46,000 tokens of this model
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_CACHE_ROOT": str(cache),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
    }
    # Not its command `vllm`, which asks for the version of a package with another name.
    start = [str(python), "-m", "vllm.entrypoints.openai.api_server"]
    options = ["--host", "127.0.0.1", "--port", str(port), "--max-num-seqs", str(STREAMS)]
    options += ["--max-model-len", "2048", "--served-model-name", MODEL_ID]
    command = [*start, "--model", str(models.safetensors), *options]
    return Launch(command, env, port, port, "/health")


CONTENDERS = (
    Contender(
        OURS,
        "this runtime, `Auto` on the GGUF file (OpenVINO)",
        FOUR,
        lambda models: launch_ours(models.gguf),
    ),
    Contender(LLAMA, "llama.cpp server (xllamacpp)", FOUR, launch_llama),
    Contender(
        OURS_BF16,
        "this runtime, `Auto` on safetensors (Transformers)",
        SIXTEEN,
        lambda models: launch_ours(models.safetensors),
    ),
    Contender(SERVE, "`transformers serve --continuous-batching`", SIXTEEN, launch_serve),
    Contender(VLLM, "vLLM on CPU (vllm-cpu), compiled", SIXTEEN, launch_vllm, seconds=900),
)


def choose(only: str) -> list[Contender]:
    """Return the contenders whose names begin as one of a comma-separated list; all of "".

    Raises `ValueError` when a word means none.
    """
    words = [word for word in only.split(",") if word]
    for word in words:
        if not any(contender.name.startswith(word) for contender in CONTENDERS):
            known = ", ".join(contender.name for contender in CONTENDERS)
            raise ValueError(f"{word} is none of {known}")
    return [c for c in CONTENDERS if not words or c.name.startswith(tuple(words))]
