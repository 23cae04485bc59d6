"""`make bench-rollouts`: rollouts, refusals, crashes and swaps of real models under real traffic.

    rollouts.py [--good N] [--bad N] [--crashes N] [--swaps N]

On the embedded cluster with images, operator and hub mirror installed. Clients ask all the time,
half of them over kept-alive connections; nothing is asked twice. What is printed: requests that
failed, how long old connections went on after a switch, seconds from a crash under traffic to the
traffic's return, and outages where the node has no room for two. Run as root: the crashes are real.
"""

import argparse
import asyncio
import datetime
import json
import os
import pathlib
import signal
import statistics
import sys
import time

import api
import meters
import stages

CLASS = "bench-half-a-node"
BAD = ("demo/does-not-exist", "demo/wrong-shapes", "demo/remote-code")
CONNECTION_AGE = 5 * 1.2  # seconds; the runtime's maximum, with its jitter
GOAL_BACK, GOAL_OVER_LOAD = 1.0, 3.0


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def counted(summary: api.Body) -> str:
    """Return a summary in a line."""
    why = f" ({summary['failures']})" if summary["failed"] else ""
    times = summary["answerSeconds"]
    return (
        f"{summary['requests']} requests, **{summary['failed']} failed**{why}; answers p50"
        f" {times['p50']:.2f} s, p99 {times['p99']:.2f} s"
    )


async def measure_good(client: api.Api, count: int) -> list[str]:
    """Roll out good revisions under traffic."""
    async with stages.stage(client) as here:
        rollouts, switched = [], []
        async with stages.Clients(here, 10) as clients:
            for number in range(count):
                started = time.monotonic()
                revision = await here.next_revision()
                await here.wait("Serving")
                rollouts.append(time.monotonic() - started)
                switched.append(await here.switch_to(revision))
                say(f"good {number + 1}: {rollouts[-1]:.1f} s")
        late = _late(clients.summary, here, switched)
    return [
        f"{count} good rollouts of a real model: {counted(clients.summary)}",
        f"from patch to verified: {describe(rollouts)}",
        f"last answer of an old revision after the switch: {describe(late)}; the maximum age of a"
        f" connection is {CONNECTION_AGE:.0f} s and an answer under way is finished:"
        f" {verdict(max(late) <= CONNECTION_AGE + clients.summary['answerSeconds']['max'])}",
        f"goal, no failed request: {verdict(clients.summary['failed'] == 0)}",
    ]


def _late(summary: api.Body, here: stages.Stage, switched: list[float]) -> list[float]:
    """Return how long after each switch the revision before was last heard of."""
    order = [revision for _, revision in here.switches]
    seen = summary["revisions"]
    late = []
    for moment in switched:
        at = next(n for n, (when, _) in enumerate(here.switches) if when == moment)
        before = seen.get(order[at - 1])
        if before is not None:
            last = datetime.datetime.fromisoformat(before["lastSeen"]).timestamp()
            late.append(max(0.0, last - moment))
    return late


async def measure_bad(client: api.Api, count: int) -> list[str]:
    """Patch to models that are bad, each in its own way, under traffic."""
    async with stages.stage(client) as here:
        serving = (await here.chatmodel())["status"]["serving"]["revision"]
        verdicts: dict[str, list[float]] = {}
        async with stages.Clients(here, 10) as clients:
            for number in range(count):
                model = {"id": BAD[number % len(BAD)]}
                # Another limit makes another revision: a refused one would be remembered.
                generation = {"maxNewTokens": 100 + number}
                started = time.monotonic()
                await here.patch(mode="huggingface", model=model, generation=generation)
                body = await here.wait("RolledBack")
                if body["status"]["serving"]["revision"] != serving:
                    raise stages.Failed("the good revision lost the traffic")
                reason = body["status"]["lastFailure"]["reason"]
                verdicts.setdefault(reason, []).append(time.monotonic() - started)
                say(f"bad {number + 1}: {reason} after {verdicts[reason][-1]:.1f} s")
    lines = [f"from patch to {reason}: {describe(found)}" for reason, found in verdicts.items()]
    return [
        f"{count} bad rollouts: {counted(clients.summary)}",
        *lines,
        f"goal, no failed request: {verdict(clients.summary['failed'] == 0)}",
    ]


async def measure_crashes(client: api.Api, count: int) -> list[str]:
    """Kill the process of a revision that has just got the traffic, and time the way back."""
    async with stages.stage(client, rollout={"bakeSeconds": 60}) as here:
        back, safe = [], []
        good = (await here.chatmodel())["status"]["serving"]["revision"]
        async with stages.Clients(here, 10) as clients:
            for number in range(count):
                revision = await here.next_revision()
                await here.switch_to(revision)
                pids = find_processes(here, revision)
                if not pids:
                    raise stages.Failed(f"no process of {revision} on this machine")
                killed = time.time()
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                moved = await here.switch_to(good, killed)
                back.append(moved - killed)
                await here.wait("RolledBack")
                safe.append(max(0.0, moved - here.ended[revision]))
                say(f"crash {number + 1}: back after {back[-1]:.2f} s, sign + {safe[-1]:.2f} s")
    p99 = sorted(safe)[-(len(safe) // 100) - 1]
    return [
        f"{count} crashes under traffic (SIGKILL of the serving process just after the switch, one"
        f" replica, old pods warm): {counted(clients.summary)}",
        f"from the kill to the Service's selector on the good revision: {describe(back)}",
        f"from the sign in the pod's status, as a watch saw it, to the same: {describe(safe)}",
        f"goal, p99 at most {GOAL_BACK:.0f} s: {p99:.2f} s, {verdict(p99 <= GOAL_BACK)}",
    ]


def find_processes(here: stages.Stage, revision: str) -> list[int]:
    """Return the pids, on this machine, of the serving containers of a revision."""
    pods = json.loads(
        here.kubectl("get", "pods", "-l", f"{stages.REVISION}={revision}", "-o", "json")
    )
    uids = [pod["metadata"]["uid"] for pod in pods["items"]]
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            group = (path / "cgroup").read_text()
            command = (path / "cmdline").read_text()
        except OSError:
            continue  # it has ended meanwhile
        if any(uid in group for uid in uids) and "\0serve" in command:
            found.append(int(path.name))
    return found


async def measure_swaps(client: api.Api, count: int) -> list[str]:
    """Roll out where the node has no room for two, a bad one at last."""
    cpu = os.cpu_count() or 2
    size = {
        "apiVersion": api.API_VERSIONS["ChatModel"],
        "kind": "InstanceClass",
        "metadata": {"name": CLASS},
        "spec": {"resources": {"requests": {"cpu": f"{cpu * 550}m"}, "limits": {"memory": "2Gi"}}},
    }
    classes = f"{api.OURS}/instanceclasses"
    await client.text("POST", classes, size)
    try:
        return await _swap(client, count)
    finally:
        await client.text("DELETE", f"{classes}/{CLASS}")


async def _swap(client: api.Api, count: int) -> list[str]:
    """Return what the swaps took, a bad one at last."""
    rollout = {"bakeSeconds": 2, "capacityWaitSeconds": 2}
    spec = {"instanceClassName": CLASS, "cache": {"strategy": "Persistent"}, "rollout": rollout}
    gaps, outages, loads = [], [], []
    async with stages.stage(client, **spec) as here:
        for number in range(count):
            async with stages.Clients(here, 10) as clients:
                revision = await here.next_revision()
                body = await here.wait("Serving")
            outages.append(body["status"]["lastRollout"]["outageSeconds"])
            gaps.append(clients.summary["longestGapSeconds"])
            loads.append(load_seconds(here, revision))
            say(f"swap {number + 1}: {gaps[-1]:.1f} s without an answer, loads {loads[-1]:.1f} s")
        good = (await here.chatmodel())["status"]["serving"]["revision"]
        async with stages.Clients(here, 10) as clients:
            await here.patch(mode="huggingface", model={"id": "demo/wrong-shapes"})
            body = await here.wait("RolledBack")
        if body["status"]["serving"]["revision"] != good:
            raise stages.Failed("the good revision did not come back")
        restored = clients.summary["longestGapSeconds"]
    over = statistics.median(gap - load for gap, load in zip(gaps, loads, strict=True))
    return [
        f"{count} swaps on a full node: without an answer for {describe(gaps)}; the operator says"
        f" {describe(outages)}; the model alone loads in {describe(loads)}",
        f"goal, at most the load time and {GOAL_OVER_LOAD:.0f} s: median {over:.1f} s over,"
        f" {verdict(over <= GOAL_OVER_LOAD)}",
        f"a bad candidate in the swap, the old one restored: {restored:.1f} s without an answer",
    ]


def load_seconds(here: stages.Stage, revision: str) -> float:
    """Return what the runtime says it took from its start to Ready."""
    log = here.kubectl("logs", "-l", f"{stages.REVISION}={revision}", "-c", "serve", "--tail=-1")
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return float(next(line["seconds"] for line in lines if line["message"] == "ready"))


def describe(seconds: list[float]) -> str:
    """Return median and range."""
    if not seconds:
        return "nothing"
    return f"{statistics.median(seconds):.2f} s [{min(seconds):.2f}..{max(seconds):.2f}]"


def verdict(is_met: bool) -> str:
    return "met" if is_met else "NOT MET"


async def run(args: argparse.Namespace) -> bool:
    """Measure what was asked for, and print each part when done; say whether goals are met."""
    is_met = True
    async with api.Api(pathlib.Path(os.environ["KUBECONFIG"])) as client:
        for count, measure in (
            (args.good, measure_good),
            (args.bad, measure_bad),
            (args.crashes, measure_crashes),
            (args.swaps, measure_swaps),
        ):
            if count:
                lines = await measure(client, count)
                print("\n".join(f"- {line}" for line in lines), flush=True)
                is_met = is_met and not any("NOT MET" in line for line in lines)
    return is_met


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--good", type=int, default=20, help="good rollouts (default 20)")
    parser.add_argument("--bad", type=int, default=20, help="bad rollouts (default 20)")
    parser.add_argument("--crashes", type=int, default=10, help="crashes in the bake (default 10)")
    parser.add_argument("--swaps", type=int, default=5, help="swaps on a full node (default 5)")
    args = parser.parse_args()
    print(f"Machine: {meters.machine()}\n", flush=True)
    try:
        is_met = asyncio.run(run(args))
    except (stages.Failed, api.Refused) as failure:
        sys.exit(f"{parser.prog}: {failure}")
    print(f"\nLoad at the end: {os.getloadavg()[0]:.1f}")
    sys.exit(0 if is_met else 1)


if __name__ == "__main__":
    main()
