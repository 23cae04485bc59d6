"""The operator killed with SIGKILL at every one of its writes: the end is the same.

One rollout is told without a kill first: a good model serves, a bad one is tried and refused. Its
writes are counted, and then it is told again, once for each write, with the operator killed right
after that write was done and before it heard so. CRASH_PHASES=before,after also kills it before.
"""

import concurrent.futures
import os
from typing import Any

import pytest
from fake_nodes_story import good
from kube import Body, Kube, wait_for

PHASES = os.environ.get("CRASH_PHASES", "after").split(",")
AT_ONCE = 4


def tell(kube: Kube) -> Body:
    """Tell the story, and return its canonical end."""
    kube.apply(good("story"))
    kube.wait_for_reason("story", "Serving", 120)
    kube.patch("story", {"model": {"id": "demo/load-fail"}})
    kube.wait_for_reason("story", "RolledBack", 120)
    wait_for(lambda: len(_pods(kube)) == 1, "the refused pods to go")
    return _end(kube)


def _pods(kube: Kube) -> list[str]:
    return kube.run("get", "pods", "-l", "carepath.ai/role=serve", "-o", "name").split()


def _end(kube: Kube) -> Body:
    """Return what must be the same: no times, uids or versions, nothing a retry may repeat."""
    status = kube.get("chatmodel", "story")["status"]
    revisions = kube.get("chatmodelrevisions")["items"]
    deployments = kube.get("deployments")["items"]
    return {
        "conditions": [(c["type"], c["status"], c["reason"]) for c in status["conditions"]],
        "serving": status["serving"],
        "target": status["target"],
        "lastFailure": status["lastFailure"]["reason"],
        "revisions": {
            r["metadata"]["name"]: (r["spec"]["number"], r["status"]["verdict"]) for r in revisions
        },
        "templates": {r["metadata"]["name"]: r["spec"].get("template") for r in revisions},
        "replicas": {d["metadata"]["name"]: d["spec"]["replicas"] for d in deployments},
        "selector": kube.get("service", "story")["spec"]["selector"],
    }


@pytest.fixture(scope="module")
def undisturbed(operator: Any) -> tuple[Body, int]:
    with operator() as run:
        end = tell(run.kube)
        return end, len(run.writes())


def test_the_end_is_the_same_wherever_the_operator_is_killed(
    operator: Any, undisturbed: tuple[Body, int]
) -> None:
    end, writes = undisturbed
    plans = [(kill, phase) for phase in PHASES for kill in range(1, writes + 1)]

    def play(plan: tuple[int, str]) -> str:
        kill, phase = plan
        with operator(kill=kill, phase=phase) as run:
            try:
                found = tell(run.kube)
            except AssertionError as error:
                return f"killed {phase} write {kill}: {error}"
            # A watch may save a write here and there: then there was nothing to kill at.
            killed = any("killed" in line for line in run.writes())
            if found != end:
                return f"killed {phase} write {kill}: ended with {found}"
            return "" if killed or kill > writes - 3 else f"nobody was killed at write {kill}"

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        failures = [failure for failure in pool.map(play, plans) if failure]
    print(f"{len(plans)} plans, {writes} writes, {len(failures)} failed")
    assert not failures, "\n".join(failures[:5])
