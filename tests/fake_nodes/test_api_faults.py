"""The API server, and what is between it and the operator, at their worst: the end is the same.

Each fault is played while a good model serves and a bad one is tried. All stories are told first,
some at once, each by an operator of its own; the tests then look at what came of them. Resync is
at its shortest here, ten seconds: what a watch has missed is found by it.
"""

import concurrent.futures
import dataclasses
import itertools
import os
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest
from fake_nodes_story import start_good, tell
from kube import Body, Kube, wait_for
from oracles import find_complaints, find_misplaced

AT_ONCE = int(os.environ.get("FAULTS_AT_ONCE", "4"))
# kopf gives up after about 55 seconds by itself. OUTAGE_SECONDS=900 plays a quarter of an hour.
OUTAGE = float(os.environ.get("OUTAGE_SECONDS", "90"))
WATCH = {"watch": True}
WATCHED = ("chatmodels", "chatmodelrevisions", "deployments", "jobs", "pods")
WRITTEN = ("chatmodels", "chatmodelrevisions", "deployments", "jobs", "services", "secrets")
NO_SPACE = "etcdserver: mvcc: database space exceeded"


@dataclasses.dataclass(frozen=True)
class Fault:
    """What the proxy plays; for some seconds, or while the bad model is tried."""

    row: str
    name: str
    rules: tuple[Body, ...]
    seconds: float = 0.0
    check: Callable[[list[Body]], str] = lambda trace: ""


def fault(row: str, name: str, *rules: Body, **more: Any) -> Fault:
    return Fault(row, name, rules, **more)


def each_once(verb: str, **rule: Any) -> list[Body]:
    """Return a rule for the first write to each kind."""
    return [rule | {"verb": verb, "path": f"/{kind}", "times": 1} for kind in WRITTEN]


def at_writes(**rule: Any) -> list[Body]:
    return [*each_once("POST", **rule), *each_once("PATCH", **rule)]


def reconnects_slowly(trace: list[Body]) -> str:
    """Say where a watch was opened more than about once a second after the third time."""
    played = {line["path"] for line in trace if line.get("played") == "close"}
    for path in played:
        times = [line["at"] for line in trace if line.get("request") == path and line["watch"]]
        pace = [later - earlier for earlier, later in itertools.pairwise(times[5:])]
        if pace and sum(pace) / len(pace) < 0.9:
            return f"{path} was watched anew every {sum(pace) / len(pace):.2f} s"
    return "" if len(played) >= len(WATCHED) else f"only {sorted(played)} were closed"


FAULTS = (
    *(
        fault(
            "A3",
            f"the watch of {kind} is silent",
            {"action": "freeze", "path": f"/{kind}\\?"} | WATCH,
        )
        for kind in WATCHED
    ),
    fault(
        "A4",
        "every watch ends with 410 Gone",
        {"action": "error", "code": 410, "times": 12} | WATCH,
    ),
    fault(
        "A4",
        "every watch ends with another error",
        {"action": "error", "code": 500, "times": 12} | WATCH,
    ),
    fault("A4", "lists and watches are cut off", {"action": "reset", "verb": "GET"}, seconds=6),
    fault(
        "A4",
        "a portal answers lists with a page",
        {"action": "page", "verb": "GET", "watch": False},
        {"action": "error", "code": 410} | WATCH,
        seconds=6,
    ),
    fault("A5", "the events of our own writes come late", {"action": "late", "seconds": 4} | WATCH),
    fault("A8", "409 at the first write to each kind", *at_writes(action="status", status=409)),
    fault(
        "A9",
        "429 at the first write to each kind",
        *at_writes(action="status", status=429, headers={"Retry-After": "1"}),
    ),
    fault(
        "A10",
        "500, 503 and 504 at every request",
        *({"action": "status", "status": status, "times": 15} for status in (500, 503, 504)),
    ),
    fault(
        "A10", "the reply to the first write of each kind is lost", *at_writes(action="drop-reply")
    ),
    fault(
        "A10",
        "one write hangs longer than its time-out",
        {"action": "delay", "seconds": 17, "verb": "PATCH", "path": "/chatmodels/", "times": 1},
    ),
    fault(
        "A10",
        "the API server is away longer than kopf waits by itself",
        {"action": "reset"},
        seconds=OUTAGE,
    ),
    fault("A11", "401 at every request", {"action": "status", "status": 401}, seconds=6),
    fault("A11", "403 at every request", {"action": "status", "status": 403}, seconds=6),
    fault(
        "A12",
        "etcd takes no writes",
        *(
            {"action": "status", "status": 500, "verb": verb, "message": NO_SPACE}
            for verb in ("POST", "PATCH", "DELETE")
        ),
        seconds=10,
    ),
    fault(
        "A17",
        "every watch is closed at once",
        {"action": "close"} | WATCH,
        seconds=12,
        check=reconnects_slowly,
    ),
)


NOTHING = types.SimpleNamespace(id=None)


def play(run: Any, what: Fault) -> Body:
    """Tell the story with a fault in the middle, and return its end."""
    after = threading.Timer(what.seconds or 3600, run.play)
    after.daemon = True

    def begin() -> None:
        run.play(*what.rules)
        after.start()

    try:
        return tell(run.kube, between=begin, patience=150 + what.seconds)
    finally:
        after.cancel()


def find_wrong(run: Any, what: Fault, end: Body) -> str:
    """Play a fault; return what is wrong afterwards, empty when nothing is."""
    try:
        found = play(run, what)
        run.play()
        wait_for(lambda: is_quiet(run), "the operator to be quiet")
    except AssertionError as error:
        return f"{error}\n{run.log()[-2000:]}"
    if found != end:
        return f"ended with {found}, not {end}"
    trace = run.trace()
    if not any("played" in line for line in trace):
        return "the fault was never played"
    if len(run.said("started")) > 1:
        return f"the operator ended with {run.said('ended')}:\n{run.log()[-2000:]}"
    if misplaced := find_misplaced(run.writes(), run.kube.namespace):
        return f"written where or how it must not be: {misplaced}"
    if complaints := find_complaints(run.log()):
        return "in the log: " + "\n".join(complaints[:5])
    return what.check(trace)


def is_quiet(run: Any) -> bool:
    """Say whether a ChatModel that somebody pokes has the operator write nothing (O3)."""
    before = len(run.writes())
    kube: Kube = run.kube
    for turn in range(3):
        kube.run("annotate", "--overwrite", "chatmodel", "story", f"note=n{before}-{turn}")
    kube.wait_for_reason("story", "RolledBack")
    return len(run.writes()) == before


@pytest.fixture(scope="module")
def outcomes(
    operator: Any, undisturbed: tuple[Body, int], request: pytest.FixtureRequest
) -> dict[str, str]:
    """What is wrong after each fault that was chosen, by its name."""
    chosen = {getattr(item, "callspec", NOTHING).id for item in request.session.items}
    end, _ = undisturbed

    def outcome(what: Fault) -> str:
        with operator(timings={"resyncSeconds": 10}) as run:
            return find_wrong(run, what, end)

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        # The longest first: nothing waits for it alone in the end.
        order = sorted((f for f in FAULTS if f.name in chosen), key=lambda f: -f.seconds)
        found = dict(zip((f.name for f in order), pool.map(outcome, order), strict=True))
    return found


@pytest.mark.parametrize(
    "name",
    [pytest.param(f.name, id=f.name, marks=pytest.mark.fault(f.row)) for f in FAULTS],
)
def test_the_end_is_the_same(outcomes: dict[str, str], name: str) -> None:
    assert outcomes[name] == ""


@pytest.mark.fault("A10")
def test_traffic_moves_though_every_record_takes_six_seconds(operator: Any) -> None:
    slow = {"action": "delay", "seconds": 6, "verb": "PATCH", "path": "/chatmodelrevisions/"}
    with operator() as run:
        run.play(slow)
        start_good(run.kube, "slow")
        assert any(line.get("played") == "delay" for line in run.trace())
