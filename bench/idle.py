"""`make bench-idle`: what this operator costs while nothing changes, and what a restart writes.

    idle.py [--count N] [--seconds S]

N ChatModels of mode mock serve; for S seconds the operator's requests are counted. Then it is
started anew, and every object is compared: a restart must write nothing (exit code 1 if it does).
"""

import argparse
import asyncio
import sys
import time

import api
import arena
import meters
import programs
import sample

Versions = dict[tuple[str, str], str]


async def look(client: api.Api) -> Versions:
    """Return the resourceVersion of every object that a ChatModel has, and of events about it."""
    versions: Versions = {}
    for kind in ("ChatModel", *sample.KINDS, "Pod"):
        selector = "" if kind == "ChatModel" else sample.LABEL
        body = await client.request("GET", api.path_of(kind), labelSelector=selector)
        for item in body["items"]:
            versions[kind, item["metadata"]["name"]] = item["metadata"]["resourceVersion"]
    for item in (await client.request("GET", api.path_of("Event")))["items"]:
        if item.get("regarding", {}).get("kind") == "ChatModel":
            versions["Event", item["metadata"]["name"]] = item["metadata"]["resourceVersion"]
    return versions


async def measure_idle(client: api.Api, running: programs.Running, seconds: float) -> str:
    """Return what the operator did while nothing changed."""
    before, cpu, started = await meters.read(client), running.cpu_seconds, time.monotonic()
    while time.monotonic() - started < seconds:
        running.check()
        await asyncio.sleep(1)
    after, cpu = await meters.read(client), running.cpu_seconds - cpu
    span = after.at - before.at
    own, rss = after.own - before.own, running.memory_mib("VmRSS")
    writes = sum((after.requests - before.requests)[key] for key in _ours(after))
    return (
        f"idle for {span:.0f} s: {own} requests of the operator ({own / span:.2f} a second),"
        f" {writes} writes to ChatModels and children by anybody, operator CPU"
        f" {100 * cpu / span:.2f} % of one CPU, RSS {rss:.0f} MiB (peak"
        f" {running.memory_mib():.0f} MiB)"
    )


def _ours(reading: meters.Reading) -> list[tuple[str, str]]:
    plurals = {api.PATHS[kind][1] for kind in ("ChatModel", *sample.KINDS, "Pod")}
    return [key for key in reading.requests if key[0] in meters.WRITES and key[1] in plurals]


async def measure_restart(
    client: api.Api, place: arena.Arena, program: programs.Program, known: Versions
) -> tuple[str, bool]:
    """Start the operator anew; return what it did, and whether it wrote nothing."""
    before = await meters.read(client)
    with place.run(program) as running:
        await arena.wait_until_started(client, running, before.own)
        await asyncio.sleep(arena.SETTLE_SECONDS)
        after, _ = await arena.wait_until_quiet(client)
        cpu, peak = running.cpu_seconds, running.memory_mib()
    now = await look(client)
    changed = sorted(key for key in known.keys() | now.keys() if known.get(key) != now.get(key))
    sent = after.requests - before.requests
    writes = {" ".join(key): sent[key] for key in _ours(after) if sent[key]}
    text = (
        f"restart: {after.own - before.own} requests, writes {writes or 'none'}, objects changed"
        f" {len(changed)} {changed[:5] or ''}, CPU {cpu:.2f} s from start, peak RSS {peak:.0f} MiB"
    )
    return text, not changed and not writes


async def run(place: arena.Arena, count: int, seconds: float) -> bool:
    """Measure, print, and return whether the restart wrote nothing."""
    found = programs.list_programs(place.sample, place.kubeconfig)
    ours = next(program for program in found if program.name == "ours")
    async with (
        api.Api(place.admin, arena.CREATORS) as client,
        arena.namespaces(client, "idle") as made,
    ):
        start = (await meters.read(client)).own
        with place.run(ours) as running:
            await arena.wait_until_started(client, running, start)
            chatmodels = [f"idle-{number:05}" for number in range(count)]
            await arena.create(client, made, chatmodels)
            await arena.wait_until_all_ready(client, running, set(chatmodels))
            await asyncio.sleep(arena.SETTLE_SECONDS)
            await arena.wait_until_quiet(client)
            idle = await measure_idle(client, running, seconds)
        restart, wrote_nothing = await measure_restart(client, place, ours, await look(client))
    print(f"{count} ChatModels of mode mock that serve\n\n- {idle}\n- {restart}")
    print(f"\ngoal: a restart writes nothing: {'met' if wrote_nothing else 'NOT MET'}")
    return wrote_nothing


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100, help="ChatModels (default 100)")
    parser.add_argument("--seconds", type=float, default=120, help="idle time (default 120)")
    args = parser.parse_args()
    print(f"Machine: {meters.machine()}", flush=True)
    try:
        with arena.prepare() as place:
            wrote_nothing = asyncio.run(run(place, args.count, args.seconds))
    except (programs.Failed, api.Refused) as failure:
        sys.exit(f"{parser.prog}: {failure}")
    sys.exit(not wrote_nothing)


if __name__ == "__main__":
    main()
