"""All layers with one summary: `make test`.

Two lanes run beside each other, since tests on the cluster wait more than they compute: what needs
no cluster, and what does; at the end the operator's rights are held against what it asked for, and
its statuses against what they may say (support/audit.py). A layer's output is shown when it is
done. Every layer runs even when an earlier one failed; the exit code says whether all were green.
The last line counts tests over all layers.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import threading
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


# More than a developer waits for at each run; `make schedules` runs a million.
SCHEDULES = "100000"


def pytest(folder: str) -> list[str]:
    """Return the command for one folder of tests."""
    return [PYTHON, "-m", "pytest", "-q", f"tests/{folder}", "--durations=3"]


LANES = (
    (
        Layer("check", ["make", "--no-print-directory", "check"]),
        Layer("unit", pytest("unit")),
        # The other lane waits for a cluster that is in a hurry: schedules take what is left.
        Layer("golden", ["env", f"SCHEDULES={SCHEDULES}", "nice", *pytest("golden")]),
        Layer("contract", pytest("contract")),
        Layer("images", ["make", "--no-print-directory", "images"]),
    ),
    (
        Layer("control plane", pytest("control_plane")),
        Layer("fake nodes", pytest("fake_nodes")),
        Layer("node", pytest("node")),
    ),
)
WITHOUT_TESTS = ("check", "images", "audit")
printing = threading.Lock()


def run(layer: Layer) -> None:
    """Run one layer, show its output, and count."""
    print(f"=== {layer.name} begins", flush=True)
    started = time.monotonic()
    done = subprocess.run(
        layer.command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    layer.code = done.returncode
    layer.seconds = time.monotonic() - started
    lines = done.stdout.splitlines()
    last = next((x for x in reversed(lines) if COUNTS.search(x) and " in " in x), "")
    for number, word in COUNTS.findall(last):
        if word == "passed":
            layer.passed += int(number)
        elif word in ("failed", "error", "errors"):
            layer.failed += int(number)
        else:
            layer.skipped += int(number)
    if layer.name not in WITHOUT_TESTS and layer.code == 5:
        layer.failed += 1  # a layer without a test is a mistake, not a success
    with printing:
        print(f"\n=== {layer.name}: {' '.join(layer.command[-3:])}\n{done.stdout}", flush=True)


def run_lane(layers: tuple[Layer, ...]) -> None:
    """Run layers one after the other."""
    for layer in layers:
        run(layer)


def main() -> None:
    """Run all layers and print the summary."""
    os.chdir(ROOT)
    started, since = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    with concurrent.futures.ThreadPoolExecutor(len(LANES)) as pool:
        list(pool.map(run_lane, LANES))
    # Last of all: only now is it known which rights the operator used in this run.
    audit = Layer("audit", [PYTHON, "tests/support/audit.py", "--since", since])
    run(audit)
    layers = [*(layer for lane in LANES for layer in lane), audit]
    print("\nlayer            passed  failed  skipped  seconds")
    for layer in layers:
        verdict = "" if layer.code == 0 else f"  exit {layer.code}"
        print(
            f"{layer.name:<16} {layer.passed:>6}  {layer.failed:>6}  {layer.skipped:>7}"
            f"  {layer.seconds:>7.0f}{verdict}"
        )
    print(f"{'all':<16} {'':>6}  {'':>6}  {'':>7}  {time.monotonic() - started:>7.0f}")
    passed, failed = sum(x.passed for x in layers), sum(x.failed for x in layers)
    skipped = sum(x.skipped for x in layers)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if any(layer.code for layer in layers) else 0)


if __name__ == "__main__":
    main()
