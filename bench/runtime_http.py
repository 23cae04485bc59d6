"""`/triage` with the mock in one process, against a bare FastAPI route; `/livez` under overload.

`make bench-triage`. Interleaved rounds over kept connections; medians with least and most. The
server's CPU time for a request is printed beside requests per second: neighbours on the machine
disturb it less. Exits 1 when a goal is not met.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import http_load
import meters
import processes
import uvloop

BODY = json.dumps({"patient_mrn": "MRN-001", "query": "What are my current medications?"}).encode()
KEY = "a-key-of-the-benchmark"
ASK = http_load.build_request("/triage", BODY, method="POST", key=KEY)
BARE, OURS, KEYED = "bare FastAPI route", "/triage, mock", "/triage, mock, with API keys"
ROOM = {"maxConcurrentRequests": 8, "maxQueuedRequests": 32}
STEP_SECONDS = "0.002"  # a mock that takes its time, so that the queue fills
WARM_UP_SECONDS = 0.5
GOAL_RATE, REFERENCE_RATE = 6000, 6127  # the latter: a bare route where the goal was set
GOAL_LIVEZ_SECONDS = 0.1


@dataclasses.dataclass(frozen=True)
class Server:
    """A process that serves on loopback."""

    pid: int
    port: int
    management: int


@dataclasses.dataclass(frozen=True)
class Round:
    """One server asked for some seconds."""

    rate: float
    server_us: float  # CPU of a request
    p99_ms: float
    client_cpus: float
    other_cpus: float


def main() -> int:
    """Run it all and print it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--no-overload", action="store_true", help="only the rates")
    args = parser.parse_args()
    print(f"Machine: {meters.machine()}\n")
    with tempfile.TemporaryDirectory() as folder:
        is_fast = uvloop.run(_measure_rates(pathlib.Path(folder), args))
        lives = args.no_overload or uvloop.run(_measure_livez(pathlib.Path(folder), args.seconds))
    return 0 if is_fast and lives else 1


async def _measure_rates(folder: pathlib.Path, args: argparse.Namespace) -> bool:
    with contextlib.ExitStack() as stack:
        servers = {
            BARE: stack.enter_context(_bare()),
            OURS: stack.enter_context(_runtime(folder, {"auth": {"mode": "None"}})),
            KEYED: stack.enter_context(_runtime(folder, {})),
        }
        rounds: dict[str, list[Round]] = {name: [] for name in servers}
        for number in range(args.rounds):
            names = list(servers)
            for name in names[number % 3 :] + names[: number % 3]:
                made = await _round(servers[name], args.connections, args.seconds)
                rounds[name].append(made)
    print(f"{args.rounds} rounds of {args.seconds:g} s, {args.connections} kept connections\n")
    print("| server | requests/s | server CPU µs each | p99 ms | client CPUs | others' CPUs |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, made_rounds in rounds.items():
        print(f"| {name} | {' | '.join(_cells(made_rounds))} |")
    return _judge_rates(rounds)


def _cells(rounds: list[Round]) -> Iterator[str]:
    for field, digits in (
        ("rate", 0),
        ("server_us", 0),
        ("p99_ms", 1),
        ("client_cpus", 2),
        ("other_cpus", 2),
    ):
        values = [getattr(made, field) for made in rounds]
        middle, least, most = statistics.median(values), min(values), max(values)
        yield f"{middle:.{digits}f} ({least:.{digits}f}..{most:.{digits}f})"


def _judge_rates(rounds: dict[str, list[Round]]) -> bool:
    rate = {name: statistics.median(r.rate for r in made) for name, made in rounds.items()}
    cpu = {name: statistics.median(r.server_us for r in made) for name, made in rounds.items()}
    for name in (OURS, KEYED):
        print(
            f"\n{name}: {rate[name] / rate[BARE]:.2f} times the bare route's rate,"
            f" {cpu[name] / cpu[BARE]:.2f} times its CPU"
        )
    goal = min(GOAL_RATE, rate[BARE] * GOAL_RATE / REFERENCE_RATE)
    is_met = rate[OURS] >= goal
    print(
        f"\nGoal: {GOAL_RATE} requests/s, or as many as this machine's bare route allows"
        f" ({goal:.0f}): {'met' if is_met else 'NOT met'}"
    )
    return is_met


async def _round(server: Server, connections: int, seconds: float) -> Round:
    await http_load.load(server.port, ASK, connections, WARM_UP_SECONDS)
    before = (
        meters.cpu_seconds(server.pid),
        time.process_time(),
        meters.busy_seconds(),
        time.monotonic(),
    )
    seen = await http_load.load(server.port, ASK, connections, seconds)
    took = time.monotonic() - before[3]
    served = meters.cpu_seconds(server.pid) - before[0]
    client = time.process_time() - before[1]
    answered = len(seen.seconds)
    assert set(seen.statuses) == {200}, seen.statuses
    return Round(
        rate=answered / took,
        server_us=served / answered * 1e6,
        p99_ms=_percentile(seen.seconds, 99) * 1000,
        client_cpus=client / took,
        other_cpus=max(0.0, meters.busy_seconds() - before[2] - served - client) / took,
    )


async def _measure_livez(folder: pathlib.Path, seconds: float) -> bool:
    """Print how long `/livez` takes while four times as many ask as there is room for."""
    clients = 4 * sum(ROOM.values())
    change = {"auth": {"mode": "None"}, "limits": ROOM}
    with _runtime(folder, change, MOCK_STEP_SECONDS=STEP_SECONDS) as server:
        calm = await _probe(server, 1)
        flood = asyncio.ensure_future(http_load.load(server.port, ASK, clients, 4 * seconds))
        await asyncio.sleep(WARM_UP_SECONDS)
        before = (
            meters.busy_seconds(),
            meters.cpu_seconds(server.pid),
            time.process_time(),
            time.monotonic(),
        )
        probed = await _probe(server, 4 * seconds - 1)
        own = meters.cpu_seconds(server.pid) - before[1] + time.process_time() - before[2]
        others = max(0.0, meters.busy_seconds() - before[0] - own) / (time.monotonic() - before[3])
        seen = await flood
    for word, what in (("calm", calm), (f"{clients} clients for {clients // 4} places", probed)):
        p50, p99 = (_percentile(what.seconds, n) * 1000 for n in (50, 99))
        print(
            f"\n/livez, {word}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, most"
            f" {max(what.seconds) * 1000:.1f} ms of {len(what.seconds)}; {dict(what.statuses)}"
        )
    print(f"Answers meanwhile by status: {dict(seen.statuses)}; others' CPUs {others:.2f}")
    is_met = _percentile(probed.seconds, 99) <= GOAL_LIVEZ_SECONDS and set(probed.statuses) == {200}
    print(f"Goal: p99 at most 100 ms at four times overload: {'met' if is_met else 'NOT met'}")
    return is_met


async def _probe(server: Server, seconds: float) -> http_load.Seen:
    """Ask `/livez` again and again, three at a time: the last percent needs many."""
    made = [http_load.probe(server.management, "/livez", 0.01, seconds) for _ in range(3)]
    seen = http_load.Seen()
    for one in await asyncio.gather(*made):
        seen.statuses += one.statuses
        seen.seconds += one.seconds
    return seen


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


@contextlib.contextmanager
def _bare() -> Iterator[Server]:
    port = processes.free_port()
    script = str(pathlib.Path(__file__).with_name("bare_route.py"))
    with _process([script, str(port)], {}, f"http://127.0.0.1:{port}/") as pid:
        yield Server(pid, port, port)


@contextlib.contextmanager
def _runtime(folder: pathlib.Path, change: dict[str, object], **env: str) -> Iterator[Server]:
    (folder / "api-key").write_text(KEY)
    config = {
        "command": "serve",
        "chatModel": "bench",
        "revision": "bench-1",
        "mode": "mock",
        "engine": "Mock",
        "patientContext": {"source": "Demo"},
        "auth": {"mode": "ApiKey", "keysDir": str(folder)},
        "limits": {"drainSeconds": 0},
    }
    port, management = processes.free_port(), processes.free_port()
    env |= {
        "CHATMODEL_CONFIG": json.dumps(config | change),
        "CHAT_API_PORT": str(port),
        "MANAGEMENT_PORT": str(management),
    }
    url = f"http://127.0.0.1:{management}/readyz"
    with _process(["-m", "chatmodel_runtime", "serve"], env, url) as pid:
        yield Server(pid, port, management)


@contextlib.contextmanager
def _process(command: list[str], env: dict[str, str], url: str) -> Iterator[int]:
    """Run a server until the block ends; its log goes through a pipe, as a pod's does."""
    with (
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as sink,
        subprocess.Popen(
            [sys.executable, *command], env={**os.environ, **env}, stdout=sink.stdin
        ) as process,
    ):
        try:
            _wait_for(url, process)
            yield process.pid
        finally:
            process.kill()
            sink.kill()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError as error:
            if error.code == 404:  # the bare route has no probe
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"{url} does not answer")


if __name__ == "__main__":
    sys.exit(main())
