"""All layers, one after the other, with one summary: `make test`.

Every layer runs even when an earlier one failed; the exit code says whether all were green. The
last line counts tests over all layers.
"""

import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
PYTHON = sys.executable
COUNTS = re.compile(r"(\d+) (passed|failed|error|errors|skipped|xfailed)\b")


@dataclasses.dataclass
class Layer:
    """A command, and what came of it."""

    name: str
    command: list[str]
    seconds: float = 0.0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    code: int = 0


def pytest(folder: str) -> list[str]:
    """Return the command for one folder of tests."""
    return [PYTHON, "-m", "pytest", "-q", f"tests/{folder}", "--durations=3"]


LAYERS = (
    Layer("check", ["make", "--no-print-directory", "check"]),
    Layer("unit", pytest("unit")),
    Layer("golden", pytest("golden")),
    Layer("contract", pytest("contract")),
    Layer("control plane", pytest("control_plane")),
    Layer("fake nodes", pytest("fake_nodes")),
    Layer("node", pytest("node")),
)


def run(layer: Layer) -> None:
    """Run one layer, its output passing through, and count."""
    print(f"\n=== {layer.name}: {' '.join(layer.command[-3:])}", flush=True)
    started = time.monotonic()
    process = subprocess.Popen(
        layer.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        if COUNTS.search(line) and " in " in line:
            last = line
    layer.code = process.wait()
    layer.seconds = time.monotonic() - started
    for number, word in COUNTS.findall(last):
        if word == "passed":
            layer.passed += int(number)
        elif word in ("failed", "error", "errors"):
            layer.failed += int(number)
        else:
            layer.skipped += int(number)
    if layer.name != "check" and layer.code == 5:
        layer.failed += 1  # a layer without a test is a mistake, not a success


def main() -> None:
    """Run all layers and print the summary."""
    os.chdir(ROOT)
    started = time.monotonic()
    for layer in LAYERS:
        run(layer)
    print("\nlayer            passed  failed  skipped  seconds")
    for layer in LAYERS:
        verdict = "" if layer.code == 0 else f"  exit {layer.code}"
        print(
            f"{layer.name:<16} {layer.passed:>6}  {layer.failed:>6}  {layer.skipped:>7}"
            f"  {layer.seconds:>7.0f}{verdict}"
        )
    print(f"{'all':<16} {'':>6}  {'':>6}  {'':>7}  {time.monotonic() - started:>7.0f}")
    passed, failed = sum(x.passed for x in LAYERS), sum(x.failed for x in LAYERS)
    skipped = sum(x.skipped for x in LAYERS)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if any(layer.code for layer in LAYERS) else 0)


if __name__ == "__main__":
    main()
