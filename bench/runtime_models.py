"""`make bench-runtime`: SmolLM2-135M over HTTP, streamed, beside other servers of the same weights.

    runtime_models.py [--rounds N] [--only NAMES] [--parts PARTS] [--levels L] [--json FILE]

docs/benchmarks.md says what is compared and how. Exits 1 when a goal is not met.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import pathlib
import signal
import sys
import tempfile
import time
from typing import Any

import contenders
import environments
import fits
import meters
import prefixes
import processes
import runtime_goals
import runtime_report
import speed
import starts
import streams
from runtime_report import Goal, Prefix, Sample, Server

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests" / "support"))
import models
import staged

PARTS = ("speed", "prefix", "start", "fit")
MIB = 2**20
MOCK_TIMES = 5


@dataclasses.dataclass
class Results:
    """All that was measured."""

    servers: list[Server] = dataclasses.field(default_factory=list)
    samples: list[Sample] = dataclasses.field(default_factory=list)
    prefixes: list[Prefix] = dataclasses.field(default_factory=list)
    starts: list[runtime_report.Start] = dataclasses.field(default_factory=list)
    mock_starts: list[runtime_report.MockStart] = dataclasses.field(default_factory=list)
    refusals: list[runtime_report.Refusal] = dataclasses.field(default_factory=list)


def main() -> int:
    """Measure and print; return the exit code."""
    args = read_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server stays behind
    facts = meters.machine()
    results, began = Results(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="chatmodel-bench-") as name:
        folder = pathlib.Path(name)
        found = lay_down(folder)
        if "fit" in args.parts:
            results.refusals = fits.measure(found, folder)
        if "start" in args.parts:
            results.mock_starts = starts.measure_mock(folder, MOCK_TIMES)
            results.starts = starts.measure_engines(found, folder, args.rounds)
        if {"speed", "prefix"} & set(args.parts):
            asyncio.run(measure_served(args, found, folder, results))
    goals = judge(results)
    if args.json:
        args.json.write_text(json.dumps(dataclasses.asdict(results), indent=1))
    print(f"Machine: {facts}. {args.rounds} interleaved round(s), {args.tokens} tokens an answer,")
    print(f"{(time.monotonic() - began) / 60:.0f} minutes in all.\n")
    if results.servers:
        print(runtime_report.build_speed(results.servers, results.samples, args.levels) + "\n")
    print(runtime_report.build_goals(goals))
    return 0 if all(goal.is_met for goal in goals) else 1


def read_arguments(given: list[str] | None = None) -> argparse.Namespace:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    known = ", ".join(contender.name for contender in contenders.CONTENDERS)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5)")
    parser.add_argument(
        "--only",
        type=contenders.choose,
        default=list(contenders.CONTENDERS),
        metavar="NAMES",
        help=f"servers whose names begin so, as ours,llama.cpp; there are {known}",
    )
    parser.add_argument(
        "--parts", type=read_parts, default=PARTS, help=f"of {','.join(PARTS)} (all)"
    )
    parser.add_argument(
        "--levels", type=read_levels, default=[1, 4, 16], help="streams at once (1,4,16)"
    )
    parser.add_argument("--tokens", type=int, default=64, help="of each answer (64)")
    parser.add_argument("--json", type=pathlib.Path, help="write all results here as well")
    return parser.parse_args(given)


def read_parts(text: str) -> tuple[str, ...]:
    """Return the parts of a comma-separated list. Raises `ValueError`."""
    parts = tuple(text.split(","))
    if unknown := set(parts) - set(PARTS):
        raise ValueError(f"{', '.join(sorted(unknown))} is none of {', '.join(PARTS)}")
    return parts


def read_levels(text: str) -> list[int]:
    """Return numbers of streams, as many as servers have room for at most. Raises `ValueError`."""
    levels = [int(word) for word in text.split(",")]
    if not all(1 <= level <= contenders.STREAMS for level in levels):
        raise ValueError(f"a level is from 1 to {contenders.STREAMS}")
    return levels


def lay_down(folder: pathlib.Path) -> contenders.Models:
    """Return both forms of the model as staging leaves them; made the first time."""
    gguf = models.made("smollm-gguf", models.make_smollm_gguf)
    safetensors = models.made("smollm", models.make_smollm)
    return contenders.Models(
        staged.lay_down(gguf, folder / "gguf"), staged.lay_down(safetensors, folder / "safetensors")
    )


async def measure_served(
    args: argparse.Namespace, found: contenders.Models, folder: pathlib.Path, results: Results
) -> None:
    """Start all servers, one after another, and measure them together."""
    with contextlib.ExitStack() as stack:
        up: list[tuple[contenders.Served, float]] = []
        for contender in args.only:
            try:
                up.append(await _start(stack, contender, found, folder, args))
            except (
                environments.NotInstalled,
                processes.DidNotStart,
                streams.Failed,
            ) as error:
                runtime_report.say(f"{contender.name}: not measured: {error}")
                results.servers.append(describe(contender, problem=str(error)))
        all_served = [served for served, _ in up]
        if "speed" in args.parts and all_served:
            for number in range(args.rounds):
                results.samples += await speed.measure_round(
                    all_served, number, args.levels, args.tokens
                )
        for served, first in up:
            results.servers.append(describe(served.contender, served, first))
        if "prefix" in args.parts:
            for served in all_served:
                results.prefixes += await prefixes.measure(served, 2 * args.rounds)


async def _start(
    stack: contextlib.ExitStack,
    contender: contenders.Contender,
    found: contenders.Models,
    folder: pathlib.Path,
    args: argparse.Namespace,
) -> tuple[contenders.Served, float]:
    """Return a server, and the seconds from its start to its first token; then warm it up."""
    began_ready = stack.enter_context(contextlib.ExitStack())
    served = began_ready.enter_context(contenders.serve(contender, found, folder))
    body = streams.build_body(served.model, streams.ASK + streams.words(20, "first"), 1)
    try:
        first = served.running.seconds + (await streams.ask(served.port, body)).first
        await speed.warm_up(served, args.levels)
    except streams.Failed:
        began_ready.close()
        raise
    runtime_report.say(f"{contender.name}: ready after {served.running.seconds:.1f} s")
    return served, first


def describe(
    contender: contenders.Contender,
    served: contenders.Served | None = None,
    first: float = 0.0,
    problem: str = "",
) -> Server:
    """Return the row of a server as far as it is known."""
    return Server(
        contender.name,
        contender.title,
        contender.weights,
        contender.name in (contenders.OURS, contenders.OURS_BF16),
        served.running.seconds if served else 0.0,
        first,
        served.running.peak_mib() if served else 0.0,
        problem,
    )


def judge(results: Results) -> list[Goal]:
    """Return all goals about what was measured."""
    names = [server.name for server in results.servers]
    titles: dict[str, Any] = {server.name: server.title for server in results.servers}
    peers = [server.name for server in results.servers if not server.is_ours]
    goals: list[Goal] = []
    if contenders.OURS in names:
        goals += runtime_goals.judge_ahead(contenders.OURS, peers, titles, results.samples)
    if contenders.OURS_BF16 in names:
        goals += runtime_goals.judge_ahead(
            contenders.OURS_BF16, [contenders.SERVE], titles, results.samples
        )
    ours = [name for name in names if name not in peers]
    goals += runtime_goals.judge_prefixes(ours, titles, results.prefixes)
    goals += runtime_goals.judge_starts(results.starts)
    goals += runtime_goals.judge_mock(results.mock_starts)
    goals += runtime_goals.judge_memory(results.servers, contenders.LIMIT / MIB)
    return goals + runtime_goals.judge_refusals(results.refusals, fits.TOO_LITTLE / MIB)


if __name__ == "__main__":
    sys.exit(main())
