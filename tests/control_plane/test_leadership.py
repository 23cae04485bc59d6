"""Two operators at once, as processes: one works; whatever happens to it, the other takes over."""

from typing import Any

import pytest
from kube import Body, Kube, chatmodel, random_name, wait_for
from operators import Fleet, Running, stopped

LEASE_SECONDS = 15
NAMES = [f"model-{number}" for number in range(6)]


def other(of: Running, *pair: Running) -> Running:
    return next(running for running in pair if running is not of)


def apply_all(kube: Kube, nowhere: str) -> None:
    kube.apply(*(chatmodel(name, mode="mock", instanceClassName=nowhere) for name in NAMES))


def state(kube: Kube) -> dict[str, Any]:
    """Return what operators have made of the ChatModels, without times and uids."""
    found: dict[str, Any] = {}
    kinds = "chatmodels,chatmodelrevisions,deployments,services,networkpolicies,serviceaccounts"
    for item in kube.get(kinds)["items"]:
        name, spec = item["metadata"]["name"], item.get("spec") or {}
        match item["kind"]:
            case "ChatModel":
                status = item.get("status") or {}
                generation = item["metadata"]["generation"] == status.get("observedGeneration")
                reasons = {c["type"]: c["reason"] for c in status.get("conditions") or []}
                found[name] = (generation, reasons, status.get("target"))
            case "ChatModelRevision":
                verdict = (item.get("status") or {}).get("verdict")
                found["revision " + name] = (spec["number"], spec["source"], verdict)
            case "Deployment":
                found["deployment " + name] = (spec["replicas"], item["metadata"]["labels"])
            case "Service":
                found["service " + name] = spec["selector"]
            case kind:
                found[f"{kind} {name}"] = None
    return found


def is_done(kube: Kube) -> bool:
    """Say whether every ChatModel has its Deployment and waits for a node."""
    reasons = [state(kube)[name][1].get("Ready") for name in NAMES]
    return reasons == ["Unschedulable"] * len(NAMES)


@pytest.mark.fault("A13")
def test_one_leads_and_the_other_writes_nothing(fleet: Fleet, nowhere: str) -> None:
    pair = fleet.start("a"), fleet.start("b")
    leader = fleet.leader()
    standby = other(leader, *pair)
    apply_all(fleet.kube, nowhere)
    wait_for(lambda: is_done(fleet.kube), "all to wait for a node")
    assert fleet.lease()["holderIdentity"] == leader.name
    assert leader.writes()
    assert standby.writes() == []  # both may have tried to create the Lease; one was refused
    assert standby.get("/readyz") == (503, "standing by\n")
    assert standby.get("/livez")[0] == 200
    assert [x.sample("chatmodel_operator_leader") for x in (leader, standby)] == [1, 0]
    # Its cache is warm: it tells of every ChatModel.
    assert standby.sample("chatmodel_replicas", name=NAMES[0], state="wanted") == 1


def test_a_leader_that_is_told_to_end_hands_over_at_once(fleet: Fleet) -> None:
    first = fleet.start("first", proxied=False)
    wait_for(first.leads, "the first to lead")
    second = fleet.start("second")
    wait_for(lambda: second.get("/readyz")[1] == "standing by\n", "the second to stand by")
    first.process.terminate()
    assert first.process.wait(10) == 0
    wait_for(second.leads, "the second to lead", 3)
    assert fleet.lease()["holderIdentity"] == "second"
    assert fleet.lease()["leaseTransitions"] == 1
    assert [x["message"] for x in first.log() if "lease" in x["message"]] == ["lease given back"]


def test_a_leader_that_is_killed_is_followed_when_its_lease_has_run_out(fleet: Fleet) -> None:
    first = fleet.start("first", proxied=False)
    wait_for(first.leads, "the first to lead")
    second = fleet.start("second")
    wait_for(lambda: second.get("/readyz")[1] == "standing by\n", "the second to stand by")
    first.process.kill()
    wait_for(second.leads, "the second to lead", LEASE_SECONDS + 5)
    assert fleet.lease()["holderIdentity"] == "second"


@pytest.mark.fault("A13")
def test_a_leader_that_was_stopped_for_a_while_does_no_harm(fleet: Fleet, nowhere: str) -> None:
    pair = fleet.start("a"), fleet.start("b")
    old = fleet.leader()
    new = other(old, *pair)
    apply_all(fleet.kube, nowhere)
    wait_for(lambda: len(old.writes()) > 5, "the old one to be at work")
    with stopped(old):
        wait_for(new.leads, "the new one to lead", LEASE_SECONDS + 5)
        wait_for(lambda: is_done(fleet.kube), "all to wait for a node")
        before = old.writes()
        for name in NAMES:
            fleet.kube.patch(name, {"generation": {"maxNewTokens": 64}})
    wait_for(lambda: old.get("/readyz")[1] == "standing by\n", "the old one to stand by")
    wait_for(lambda: _has_settled(fleet.kube), "the edit to be carried out")
    assert old.writes() == before
    assert fleet.lease()["holderIdentity"] == new.name


def test_a_leader_without_an_api_server_stops_before_its_lease_runs_out(fleet: Fleet) -> None:
    pair = fleet.start("a"), fleet.start("b")
    old = fleet.leader()
    new = other(old, *pair)
    old.play({"action": "delay", "seconds": 40, "path": "/leases"})
    led_together = False

    def has_moved() -> bool:
        nonlocal led_together
        led_together |= old.leads() and new.leads()
        return new.leads()

    wait_for(has_moved, "the new one to lead", LEASE_SECONDS + 5)
    assert not led_together
    assert old.get("/readyz")[0] == 503
    assert old.get("/livez")[0] == 200


@pytest.mark.fault("A13")
def test_two_without_a_lease_end_where_one_does(
    fleet: Fleet, nowhere: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    alone = Fleet(fleet.kube.inside(random_name("t")), tmp_path_factory.mktemp("alone"))
    alone.kube.run("create", "namespace", alone.kube.namespace)
    try:
        alone.start("one", elects=False)
        pair = fleet.start("a", elects=False), fleet.start("b", elects=False)
        wait_for(lambda: all(x.leads() for x in pair), "both to work")
        for kube in (alone.kube, fleet.kube):
            apply_all(kube, nowhere)
        wait_for(lambda: is_done(fleet.kube) and is_done(alone.kube), "all to wait for a node")
        for kube in (alone.kube, fleet.kube):
            for name in NAMES:
                kube.patch(name, {"generation": {"maxNewTokens": 64}})
        wait_for(lambda: _has_settled(alone.kube), "the edit to be carried out by one")
        wait_for(lambda: _has_settled(fleet.kube), "the edit to be carried out by two")
        assert _without(state(fleet.kube)) == _without(state(alone.kube))
        assert all(running.writes() for running in pair)
    finally:
        alone.stop()
        alone.kube.run("delete", "namespace", alone.kube.namespace, "--wait=false")


def _has_settled(kube: Kube) -> bool:
    return is_done(kube) and len(kube.get("chatmodelrevisions")["items"]) == 2 * len(NAMES)


def _without(found: Body) -> Body:
    """Leave out what every namespace has."""
    return {key: value for key, value in found.items() if "default" not in key}
