"""`make bench-operator`: this operator beside the floor and a plain controller-runtime operator.

    operators.py [--count N] [--rounds R] [--namespaces K] [--only NAME ...] [--json FILE]

Each round runs every program once on the same API server: N ChatModels of mode mock are created at
once; the clock stops when the last is Ready. docs/benchmarks.md says what is compared.
"""

import argparse
import asyncio
import dataclasses
import json
import pathlib
import sys
import time

import api
import arena
import meters
import programs
import report
import sample


@dataclasses.dataclass(frozen=True)
class Plan:
    """What was asked for."""

    count: int
    rounds: int
    namespaces: int


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def take_sample(client: api.Api, place: arena.Arena, program: programs.Program) -> None:
    """Let this operator serve one ChatModel, and note down for the floor what it leaves."""
    async with arena.namespaces(client, sample.NAMESPACE) as made:
        before = (await meters.read(client)).own
        with place.run(program) as running:
            await arena.wait_until_started(client, running, before)
            await arena.create(client, made, [sample.NAME])
            await arena.wait_until_all_ready(client, running, {sample.NAME})
            await asyncio.sleep(arena.SETTLE_SECONDS)
        path = api.path_of("ChatModel", made[0], sample.NAME)
        texts = await sample.take(client, await client.request("GET", path))
        place.sample.write_text(json.dumps(texts))


async def measure(
    client: api.Api, place: arena.Arena, program: programs.Program, plan: Plan
) -> report.Result:
    """Run one program once."""
    async with arena.namespaces(client, "bench", plan.namespaces) as made:
        start = (await meters.read(client)).own
        with place.run(program) as running:
            await arena.wait_until_started(client, running, start)
            idle, reading_cost, before = await _idle(client)
            cpu, parts = running.cpu_seconds, _parts(program)
            wall = await _create_and_wait(client, running, made, plan.count)
            await asyncio.sleep(arena.SETTLE_SECONDS)
            after, readings = await arena.wait_until_quiet(client)
            cpu, peak = running.cpu_seconds - cpu, running.memory_mib()
            parts = {part: seconds - parts[part] for part, seconds in _parts(program).items()}
        await _check_work(client, plan.count)
    net = after.cpu - before.cpu - readings * reading_cost - idle * (after.at - before.at)
    sent = after.requests - before.requests
    return report.Result(
        program=program.name,
        wall_seconds=wall,
        requests=sent.total() / plan.count,
        own_requests=(after.own - before.own) / plan.count,
        api_cpu_ms=1000 * net / plan.count,
        operator_cpu_ms=1000 * cpu / plan.count,
        peak_mib=peak,
        parts_ms={part: 1000 * seconds / plan.count for part, seconds in parts.items()},
        detail={f"{v} {r}": n / plan.count for (v, r), n in sorted(sent.items())},
    )


def _parts(program: programs.Program) -> dict[str, float]:
    """Return the CPU seconds of passes, as far as a program counts them."""
    return meters.operator_cpu() if program.name == report.OURS else {}


async def _idle(client: api.Api) -> tuple[float, float, meters.Reading]:
    """Return the API server's CPU per idle second and per reading, and the last reading."""
    first, second = await meters.read(client), await meters.read(client)
    cost = second.cpu - first.cpu
    await asyncio.sleep(arena.IDLE_SECONDS)
    last = await meters.read(client)
    return max(0.0, last.cpu - second.cpu - cost) / (last.at - second.at), cost, last


async def _create_and_wait(
    client: api.Api, running: programs.Running, made: list[str], count: int
) -> float:
    chatmodels = [f"bench-{number:05}" for number in range(count)]
    watching = asyncio.create_task(arena.wait_until_all_ready(client, running, set(chatmodels)))
    started = time.monotonic()
    try:
        await arena.create(client, made, chatmodels)
        return await watching - started
    finally:
        watching.cancel()


async def _check_work(client: api.Api, count: int) -> None:
    """See that the program did the work: all children are there, and Services select pods."""
    for kind in (*sample.KINDS, "Pod"):
        found = (await client.request("GET", api.path_of(kind), labelSelector=sample.LABEL))[
            "items"
        ]
        if kind == "Service":
            found = [s for s in found if s["spec"]["selector"]["carepath.ai/revision"] != "none"]
        if len(found) != count:
            raise programs.Failed(f"the work was not done: {len(found)} of {count} of kind {kind}")


async def run(place: arena.Arena, plan: Plan, only: list[str]) -> list[report.Result]:
    """Run all rounds; each begins with another program."""
    found = programs.list_programs(place.sample, place.kubeconfig)
    ours = next(p for p in found if p.name == "ours")
    chosen = [p for p in found if not only or p.name in only]
    results: list[report.Result] = []
    async with api.Api(place.admin, arena.CREATORS) as client:
        say("a sample of what this operator leaves, for the floor ...")
        await take_sample(client, place, ours)
        for number in range(plan.rounds):
            turn = number % len(chosen)
            for program in chosen[turn:] + chosen[:turn]:
                result = await measure(client, place, program, plan)
                results.append(result)
                say(f"round {number + 1}: {result.line()}")
    return results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="ChatModels (default 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--namespaces", type=int, default=1, help="spread over so many (1)")
    parser.add_argument("--only", nargs="*", default=[], help="floor ours go-default go-tuned")
    parser.add_argument("--json", type=pathlib.Path, help="write all results here as well")
    args = parser.parse_args()
    plan = Plan(args.count, args.rounds, args.namespaces)
    wants_go = not args.only or any(name.startswith("go-") for name in args.only)
    if wants_go and not programs.go_binary().exists():
        sys.exit("the Go operator is not built: run bench/programs.py first")
    facts = meters.machine()
    try:
        with arena.prepare() as place:
            facts += f"; {arena.describe_cluster()}"
            results = asyncio.run(run(place, plan, args.only))
    except (programs.Failed, api.Refused) as failure:
        sys.exit(f"{parser.prog}: {failure}")
    if args.json:
        args.json.write_text(json.dumps([dataclasses.asdict(r) for r in results], indent=1))
    titles = {p.name: p.title for p in programs.list_programs(place.sample, place.kubeconfig)}
    print(report.build(results, titles, dataclasses.asdict(plan), facts))


if __name__ == "__main__":
    main()
