"""From the start of a process to ready, beside the parts of that, and beside a bare FastAPI.

Called by `runtime_models`. Interleaved: each engine's parts and its whole start take turns, and so
do the mock's start and the bare application's.
"""

import json
import pathlib
import subprocess
import sys
import time

import contenders
import processes
import runtime_report
from runtime_report import MockStart, Start

HERE = pathlib.Path(__file__).parent
SECONDS = 240
MOCK = {
    "command": "serve",
    "chatModel": "bench",
    "revision": "bench-1",
    "mode": "mock",
    "engine": "Mock",
    "auth": {"mode": "None"},
    "limits": {"drainSeconds": 0},
}


def measure_engines(models: contenders.Models, folder: pathlib.Path, times: int) -> list[Start]:
    """Return whole starts and their parts. Raises `processes.DidNotStart`."""
    found = []
    for _ in range(times):
        for engine, model in (("OpenVINO", models.gguf), ("Transformers", models.safetensors)):
            parts = _measure_parts(engine, model)
            launch = contenders.launch_ours(model, engine=engine)
            start = Start(engine, _time_start(launch, folder), parts)
            runtime_report.say(start.line())
            found.append(start)
    return found


def measure_mock(folder: pathlib.Path, times: int) -> list[MockStart]:
    """Return starts of the mock and of `bare_route.py`. Raises `processes.DidNotStart`."""
    found = []
    for _ in range(times):
        port = processes.free_port()
        command = [sys.executable, str(HERE / "bare_route.py"), str(port)]
        bare = _time_start(contenders.Launch(command, {}, port, port, "/"), folder)
        start = MockStart(_time_start(contenders.build_ours(MOCK, []), folder), bare)
        runtime_report.say(start.line())
        found.append(start)
    return found


def _time_start(launch: contenders.Launch, folder: pathlib.Path) -> float:
    url = f"http://127.0.0.1:{launch.ready_port}{launch.path}"
    log = folder / "start.log"
    with processes.run(launch.command, launch.env, url, log, SECONDS) as running:
        return running.seconds


def _measure_parts(engine: str, model: pathlib.Path) -> dict[str, float]:
    script = [sys.executable, str(HERE / "engine_parts.py"), engine, str(model)]
    command = [*contenders.limited(contenders.LIMIT), *script, str(time.monotonic())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode != 0:
        raise processes.DidNotStart(" ".join(done.stderr.split())[-300:])
    parts: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return parts
