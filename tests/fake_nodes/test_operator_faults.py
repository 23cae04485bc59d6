"""The operator itself ended, stopped, set back in time or refused: nothing is lost, nothing done.

Each test has an operator of its own.
"""

import contextlib
import datetime
import pathlib
import re
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from fake_nodes_story import serving_pods, start_good, tell
from kube import Body, Kube, random_name, wait_for
from oracles import canonical_end, find_complaints, find_misplaced

LISTS: Body = {"verb": "GET", "watch": False}
FORBIDDEN = 'deployments.apps is forbidden: User "x" cannot patch resource "deployments"'


def at_write(run: Any, count: int) -> None:
    """Wait until the operator has made so many writes."""
    wait_for(lambda: len(run.writes()) >= count, f"write {count}", 120)


@pytest.mark.fault("A2")
def test_an_operator_told_to_end_does_so_in_time_and_in_peace(operator: Any) -> None:
    with operator() as run:
        telling = threading.Thread(target=tell, args=(run.kube,))
        telling.start()
        try:
            for turn, count in enumerate((2, 3, 4), start=1):
                at_write(run, len(run.writes()) + count)  # of the one that runs now
                run.signal(signal.SIGTERM)
                wait_for(lambda turn=turn: len(run.said("ended")) == turn, "the end", 10)
        finally:
            telling.join(200)
        assert run.said("ended") == [0, 0, 0]
        assert find_complaints(run.log()) == []
        assert run.kube.wait_for_reason("story", "RolledBack")


SKEWED = """
import datetime, time
SKEW = {seconds}
own = time.time
time.time = lambda: own() + SKEW
class Skewed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=SKEW)
datetime.datetime = Skewed
"""


@pytest.mark.fault("A14")
@pytest.mark.parametrize("hours", [-1, 1], ids=["an hour behind", "an hour ahead"])
def test_an_operator_whose_clock_is_wrong_does_the_same_at_the_same_time(
    operator: Any, undisturbed: tuple[Body, int], tmp_path: pathlib.Path, hours: int
) -> None:
    end, _ = undisturbed
    (tmp_path / "sitecustomize.py").write_text(SKEWED.format(seconds=hours * 3600))
    with operator(source=tmp_path) as run:
        kube: Kube = run.kube
        began = server_time(kube)
        assert tell(kube) == end
        ended = server_time(kube)
        logged = re.findall(r"20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d", run.log())
        off = parse(logged[-1].replace(" ", "T") + "Z") - ended
        assert abs(off.total_seconds() - hours * 3600) < 300, "the clock was right"
        for body in kube.get("chatmodelrevisions")["items"]:
            for field, value in body["status"].items():
                if field.endswith("At") and value:
                    assert began <= parse(value) <= ended, field
        for condition in kube.get("chatmodel", "story")["status"]["conditions"]:
            assert began <= parse(condition["lastTransitionTime"]) <= ended


def server_time(kube: Kube) -> datetime.datetime:
    """Return the API server's time, as it stamps an object that is made now."""
    made = kube.run(
        "create", "configmap", random_name("now"), "-o", "jsonpath={.metadata.creationTimestamp}"
    )
    return parse(made)


def parse(stamp: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(stamp)


@pytest.mark.fault("A15")
def test_an_operator_with_a_fifth_of_its_time_is_slower_and_does_the_same(
    operator: Any, undisturbed: tuple[Body, int]
) -> None:
    end, _ = undisturbed
    with operator() as run, throttled(run, runs=0.05, waits=0.2):
        assert tell(run.kube, patience=300) == end
        assert find_misplaced(run.writes(), run.kube.namespace) == []


@contextlib.contextmanager
def throttled(run: Any, *, runs: float, waits: float) -> Iterator[None]:
    """Let the operator run for so many seconds, and stop it for so many, as a CPU quota does."""
    over = threading.Event()

    def alternate() -> None:
        while not over.wait(runs):
            run.signal(signal.SIGSTOP)
            over.wait(waits)
            run.signal(signal.SIGCONT)

    wait_for(lambda: run.said("started"), "the operator to start")
    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.fault("A7", "A16")
def test_what_happened_while_no_operator_ran_counts_by_its_end_alone(operator: Any) -> None:
    with operator() as run:
        kube: Kube = run.kube
        start_good(kube, "story")
        end = canonical_end(kube, "story")
        pods = serving_pods(kube, "story")
        run.signal(signal.SIGSTOP)
        try:
            kube.patch("story", {"model": {"id": "demo/load-fail"}})
            kube.patch("story", {"model": {"id": "demo/good"}})
            kube.run("delete", "serviceaccount", "story")
            kube.run("delete", "networkpolicy", "story")
            kube.run(
                "patch", "service", "story", "--type=merge", "-p", '{"spec":{"selector":null}}'
            )
            kube.run("delete", pods[0], "--wait=false")
        finally:
            run.signal(signal.SIGCONT)
        wait_for(lambda: canonical_end(kube, "story") == end, "the same end")
        kube.get("serviceaccount", "story")
        kube.get("networkpolicy", "story")
        assert len(kube.get("chatmodelrevisions")["items"]) == 1


@pytest.mark.fault("A6", "B8")
def test_an_old_list_after_a_restart_harms_nothing_of_a_chatmodel_made_anew(operator: Any) -> None:
    with operator(timings={"resyncSeconds": 10}) as run:
        kube: Kube = run.kube
        start_good(kube, "story")
        run.play({"action": "keep", **LISTS})
        run.signal(signal.SIGKILL)  # what is listed at the next start is kept
        wait_for(lambda: run.trace() and len(kept(run)) >= 9, "old lists")
        # In the old picture the ChatModel is stopped and its pods are not: they have to go.
        kube.run("scale", "chatmodel", "story", "--replicas=0")
        kube.wait_for_reason("story", "Stopped")
        run.play({"action": "keep", "path": "/chatmodels\\?", **LISTS})
        run.signal(signal.SIGKILL)
        wait_for(lambda: any("chatmodels" in path for path in kept(run)[9:]), "the last old list")
        run.play()
        kube.run("delete", "chatmodel", "story")
        wait_for(lambda: kube.get("deployments")["items"] == [], "the old children to go")
        start_good(kube, "story")
        end, uids = canonical_end(kube, "story"), uids_of(kube)
        before = len(run.writes())
        run.play({"action": "stale", **LISTS}, {"action": "freeze", "watch": True})
        run.signal(signal.SIGKILL)
        wait_for(lambda: played(run, "stale") >= 18, "old lists, twice over", 60)
        run.play()
        # The past is over when the newest edit is seen.
        kube.patch("story", {"replicas": 2})
        wait_for(lambda: len(serving_pods(kube, "story")) == 2, "a second pod", 120)
        assert [w for w in run.writes()[before:] if w["verb"] == "DELETE"] == []
        kube.patch("story", {"replicas": 1})
        wait_for(lambda: canonical_end(kube, "story") == end, "the same end")
        assert uids_of(kube) == uids
        assert find_misplaced(run.writes(), kube.namespace) == []


def played(run: Any, action: str) -> int:
    return sum(line.get("played") == action for line in run.trace())


def kept(run: Any) -> list[str]:
    return [line["path"] for line in run.trace() if line.get("played") == "keep"]


def uids_of(kube: Kube) -> set[str]:
    kinds = "chatmodels,chatmodelrevisions,deployments,services,serviceaccounts,networkpolicies"
    items = kube.get(kinds)["items"]
    return {item["metadata"]["uid"] for item in items if item["metadata"]["name"] != "default"}


@pytest.mark.fault("A9")
def test_the_server_is_given_its_time_while_others_go_on(operator: Any) -> None:
    asked = 15
    with operator() as run:
        kube: Kube = run.kube
        start_good(kube, "slow")
        start_good(kube, "other")
        run.play(
            {"action": "status", "status": 429, "headers": {"Retry-After": str(asked)},
             "verb": "POST", "path": "/chatmodelrevisions", "times": 1},
        )  # fmt: skip
        kube.patch("slow", {"model": {"id": "demo/good-2"}})
        wait_for(lambda: played(run, "status") == 1, "the refusal")
        kube.patch("other", {"model": {"id": "demo/good-3"}})
        kube.wait_for_reason("slow", "Serving", 120)
        kube.wait_for_reason("other", "Serving", 120)
        posts = [
            line["at"]
            for line in run.trace()
            if line.get("verb") == "POST"
            and str(line.get("request")).endswith("/chatmodelrevisions")
        ]
        first, *others = posts[2:]  # the ones before are of the first models
        assert len(others) == 2
        assert others[0] - first < asked / 2  # the other ChatModel's
        assert others[1] - first >= asked


@pytest.mark.fault("A11")
def test_a_missing_permission_is_said_and_heals(operator: Any) -> None:
    with operator() as run:
        kube: Kube = run.kube
        start_good(kube, "story")
        run.play(
            {"action": "status", "status": 403, "message": FORBIDDEN, "reason": "Forbidden",
             "verb": "PATCH", "path": "/deployments/"},
        )  # fmt: skip
        kube.patch("story", {"replicas": 2})
        ready = kube.wait_for_reason("story", "PermissionDenied")
        assert FORBIDDEN in ready["message"]
        conditions = {
            c["type"]: c["status"] for c in kube.get("chatmodel", "story")["status"]["conditions"]
        }
        assert conditions["Available"] == conditions["Stalled"] == "True"
        run.play()
        kube.wait_for_reason("story", "Serving", 90)
        wait_for(lambda: len(serving_pods(kube, "story")) == 2, "two pods", 90)
        assert find_complaints(run.log()) == []
