"""A model that does not fit the memory limit: refused before it is loaded, with both numbers.

Called by `runtime_models`. How much a served model really takes is measured by `speed`.
"""

import os
import pathlib
import re
import signal
import subprocess
import time

import contenders
import processes
import runtime_report
from runtime_report import Refusal

TOO_LITTLE = 512 * 2**20  # bytes; SmolLM2 in 4 or 16 bits needs more
SECONDS = 120
NUMBERS = re.compile(r"InsufficientMemory: (needs [^\"]*? may be used)")


def measure(models: contenders.Models, folder: pathlib.Path) -> list[Refusal]:
    """Start both engines with a limit that is too small, and see how that ends."""
    found = []
    for engine, model in (("OpenVINO", models.gguf), ("Transformers", models.safetensors)):
        launch = contenders.launch_ours(model, limit=TOO_LITTLE, engine=engine)
        refusal = _watch(engine, launch, folder / f"refused-{engine}.log")
        runtime_report.say(refusal.line())
        found.append(refusal)
    return found


def _watch(engine: str, launch: contenders.Launch, log: pathlib.Path) -> Refusal:
    """Run to the end, and note the most that was resident."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            launch.command, env=os.environ | launch.env, stdout=out, stderr=subprocess.STDOUT
        )
    end, peak = time.monotonic() + SECONDS, 0.0
    running = processes.Running(process.pid, 0.0)
    while process.poll() is None:
        peak = max(peak, running.peak_mib())
        if time.monotonic() > end:
            process.send_signal(signal.SIGKILL)
        time.sleep(processes.POLL_SECONDS)
    return Refusal(engine, process.returncode, read_numbers(log.read_text()), peak)


def read_numbers(log: str) -> str:
    """Return what a log says of the memory that is needed and that there is, or nothing."""
    found = NUMBERS.search(log)
    return found[1] if found else ""
