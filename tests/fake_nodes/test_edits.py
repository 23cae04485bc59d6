"""Edits in the middle of things: another model, back again, scaled, paused, deleted, bad on bad.

One operator for all; every ChatModel serves before the first test.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from fake_nodes_story import candidate_pod, good, serving_pods, show
from kube import Body, Kube, wait_for
from oracles import find_complaints, find_misplaced

MODELS = ("onward", "return", "worse", "thrice", "grown", "stopped", "held", "switched")


@pytest.fixture(scope="module")
def edits(operator: Any) -> Iterator[Any]:
    """A namespace in which every ChatModel serves."""
    with operator() as run:
        run.kube.apply(*(good(name) for name in MODELS))
        for name in MODELS:
            run.kube.wait_for_reason(name, "Serving", 180)
        yield run
        assert find_misplaced(run.writes(), run.kube.namespace) == []
        assert find_complaints(run.log()) == []


def ask(kube: Kube, name: str, word: str, **spec: Any) -> None:
    kube.patch(name, {"model": {"id": f"demo/{word}"}, **spec})


def status(kube: Kube, name: str) -> Body:
    return dict(kube.get("chatmodel", name)["status"])


def revision(kube: Kube, name: str, number: int) -> Body:
    items = kube.get("chatmodelrevisions", "-l", f"carepath.ai/chatmodel={name}")["items"]
    return next(r for r in items if r["spec"]["number"] == number)


@pytest.mark.fault("R3")
def test_another_edit_abandons_the_candidate(edits: Any) -> None:
    kube: Kube = edits.kube
    ask(kube, "onward", "never-ready")
    candidate_pod(kube, "onward")
    ask(kube, "onward", "good-3")
    kube.wait_for_reason("onward", "Serving")
    assert status(kube, "onward")["serving"]["number"] == 3
    wait_for(lambda: len(serving_pods(kube, "onward")) == 1, "the other pods to go")
    assert revision(kube, "onward", 2)["status"].get("verdict") != "Verified"


@pytest.mark.fault("R5")
def test_an_edit_back_is_served_at_once_by_the_pods_that_are_there(edits: Any) -> None:
    kube: Kube = edits.kube
    pods = serving_pods(kube, "return")
    verified = revision(kube, "return", 1)["status"]["answeredAt"]
    ask(kube, "return", "never-ready")
    candidate_pod(kube, "return")
    ask(kube, "return", "good")
    kube.wait_for_reason("return", "Serving", 10)
    wait_for(lambda: serving_pods(kube, "return") == pods, "the candidate's pod to go")
    assert revision(kube, "return", 1)["status"]["answeredAt"] == verified


@pytest.mark.fault("R6")
def test_when_the_last_good_one_fails_too_no_further_choice_is_made(edits: Any) -> None:
    kube: Kube = edits.kube
    ask(kube, "worse", "good-2", rollout={"bakeSeconds": 600})
    kube.wait_for_reason("worse", "Baking")
    old, new = (revision(kube, "worse", number)["metadata"]["name"] for number in (1, 2))
    words = ("pods", "-o", "name", "-l")
    first = kube.run("get", *words, f"carepath.ai/revision={old}").strip()
    second = kube.run("get", *words, f"carepath.ai/revision={new}").strip()
    waits = {"waiting": {"reason": "InvalidImageName", "message": "told to be bad"}}
    show(kube, first.removeprefix("pod/"), state=waits)
    show(kube, second.removeprefix("pod/"), state=waits)
    ready = kube.wait_for_reason("worse", "RollbackFailed")
    assert "InvalidImageName: told to be bad" in ready["message"]
    show(kube, first.removeprefix("pod/"), ready=True, state={"running": {"startedAt": None}})
    kube.wait_for_reason("worse", "RolledBack")
    assert status(kube, "worse")["serving"]["number"] == 1


@pytest.mark.fault("R9")
def test_bad_after_bad_is_recorded_once_each_and_the_good_one_is_untouched(edits: Any) -> None:
    kube: Kube = edits.kube
    pods = serving_pods(kube, "thrice")
    for number, word in enumerate(("load-fail", "oom", "no-image"), start=2):
        ask(kube, "thrice", word)
        wait_for(
            lambda number=number: status(kube, "thrice")["target"]["number"] == number, "a target"
        )
        kube.wait_for_reason("thrice", "RolledBack")
    reasons = [revision(kube, "thrice", number)["status"]["reason"] for number in (2, 3, 4)]
    assert reasons == ["ModelLoadFailed", "OOMKilled", "ImageNotFound"]
    wait_for(lambda: serving_pods(kube, "thrice") == pods, "the bad pods to go")


@pytest.mark.fault("R10")
def test_a_scale_in_the_middle_of_a_rollout_is_for_what_serves(edits: Any) -> None:
    kube: Kube = edits.kube
    ask(kube, "grown", "never-ready")
    candidate_pod(kube, "grown")
    kube.patch("grown", {"replicas": 3})
    wait_for(lambda: status(kube, "grown")["readyReplicas"] == 3, "three pods that serve")
    candidate_pod(kube, "grown")  # still one


@pytest.mark.fault("R10")
def test_scaled_to_nothing_in_a_rollout_it_stops_and_is_not_called_bad(edits: Any) -> None:
    kube: Kube = edits.kube
    ask(kube, "stopped", "never-ready")
    candidate_pod(kube, "stopped")
    kube.patch("stopped", {"replicas": 0})
    kube.wait_for_reason("stopped", "Stopped")
    wait_for(lambda: serving_pods(kube, "stopped") == [], "all pods to go")
    assert "lastFailure" not in status(kube, "stopped")
    ask(kube, "stopped", "good-2", replicas=1)
    kube.wait_for_reason("stopped", "Serving", 120)


@pytest.mark.fault("R11")
def test_paused_nothing_goes_forward_and_the_latest_edit_is_what_follows(edits: Any) -> None:
    kube: Kube = edits.kube
    kube.patch("held", {"rollout": {"paused": True}})
    kube.wait_for_reason("held", "Serving")
    ask(kube, "held", "good-2")
    kube.wait_for_reason("held", "Paused")
    ask(kube, "held", "good-3")
    kube.wait_for_reason("held", "Paused")
    assert len(kube.get("deployments", "-l", "carepath.ai/chatmodel=held")["items"]) == 1
    kube.patch("held", {"rollout": {"paused": False}})
    kube.wait_for_reason("held", "Serving", 120)
    assert status(kube, "held")["serving"]["modelID"] == "demo/good-3"
    assert len(kube.get("deployments", "-l", "carepath.ai/chatmodel=held")["items"]) == 2


@pytest.mark.fault("R12", "R4")
def test_a_mock_is_a_revision_like_any_other(edits: Any) -> None:
    kube: Kube = edits.kube
    kube.patch("switched", {"mode": "mock"})
    kube.wait_for_reason("switched", "Serving")
    assert status(kube, "switched")["serving"]["mode"] == "mock"
    kube.patch("switched", {"mode": "huggingface", "model": {"id": "demo/load-fail"}})
    # Another edit as soon as it goes back: it wins.
    kube.wait_for_reason("switched", "RolledBack")
    assert status(kube, "switched")["serving"]["mode"] == "mock"
    ask(kube, "switched", "good-5")
    kube.wait_for_reason("switched", "Serving")
    assert status(kube, "switched")["serving"]["modelID"] == "demo/good-5"
