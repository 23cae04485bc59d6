"""The operator replaced or gone, namespaces and ChatModels deleted at any step.

Each test has an operator, and a namespace, of its own.
"""

import json
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from fake_nodes_story import good, serving_pods, start_good
from kube import ROOT, Body, Kube, Refused, wait_for
from oracles import find_complaints

COUNT = 20
OLD = '{"name": "HF_HUB_OFFLINE", "value": "1"}'
STEPS = ("Inspecting", "Starting", "Verifying", "Baking")


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """The source of a newer operator: it renders pods with another variable."""
    folder = tmp_path_factory.mktemp("newer")
    there = folder / "chatmodel_operator"
    shutil.copytree(ROOT / "operator/chatmodel_operator", there)
    file = there / "desired/pod.py"
    text = file.read_text()
    assert text.count(OLD) == 1
    file.write_text(text.replace(OLD, OLD.replace('"1"', '"yes"')))
    yield folder


def pods_and_templates(kube: Kube) -> Body:
    """Return what an upgrade must leave alone."""
    pods = kube.get("pods", "-l", "carepath.ai/role=serve")["items"]
    deployments = kube.get("deployments")["items"]
    return {
        "pods": {p["metadata"]["uid"] for p in pods},
        "templates": {d["metadata"]["name"]: d["spec"]["template"] for d in deployments},
        "generations": {d["metadata"]["name"]: d["metadata"]["generation"] for d in deployments},
    }


def offline(kube: Kube, name: str) -> str:
    """Return the variable by which the two versions of the operator differ."""
    serving = kube.get("chatmodel", name)["status"]["serving"]["revision"]
    pod = kube.get("deployment", serving)["spec"]["template"]["spec"]
    env = {v["name"]: v.get("value", "") for v in pod["containers"][0]["env"]}
    return str(env["HF_HUB_OFFLINE"])


@pytest.mark.fault("U3", "A16")
def test_a_newer_operator_restarts_no_pod_and_renders_new_revisions(
    operator: Any, newer: pathlib.Path
) -> None:
    with operator() as run:
        kube: Kube = run.kube
        names = [f"model-{number}" for number in range(COUNT)]
        kube.apply(*(good(name, mode="mock") for name in names))
        for name in names:
            kube.wait_for_reason(name, "Serving", 240)
        wait_for(lambda: not_settled(kube) == [], "the pods to settle")
        before = pods_and_templates(kube)
        versions = {n: kube.get("chatmodel", n)["status"] for n in names}
        # The older one ends before the newer one starts, as strategy Recreate has it.
        run.end()
        with operator(inside=kube, source=newer) as upgraded:
            kube.patch("model-0", {"generation": {"maxNewTokens": 99}})
            kube.wait_for_reason("model-0", "Serving", 120)
            wait_for(lambda: offline(kube, "model-0") == "yes", "the new template")
            assert offline(kube, "model-1") == "1"
            after = pods_and_templates(kube)
            assert before["pods"] - after["pods"] <= set(uids_of(before, kube, "model-0"))
            for name, template in before["templates"].items():
                if not name.startswith("model-0-"):
                    assert after["templates"][name] == template
                    assert after["generations"][name] == before["generations"][name]
            others = {n: kube.get("chatmodel", n)["status"] for n in names[1:]}
            assert others == {n: versions[n] for n in names[1:]}
            assert find_complaints(upgraded.log()) == []


def not_settled(kube: Kube) -> list[str]:
    items = kube.get("deployments")["items"]
    return [
        d["metadata"]["name"]
        for d in items
        if d["status"].get("readyReplicas", 0) != d["spec"]["replicas"]
    ]


def uids_of(before: Body, kube: Kube, name: str) -> set[str]:
    """Return the pods of before that are not other ChatModels' pods now."""
    pods = kube.get("pods", "-l", f"carepath.ai/role=serve,carepath.ai/chatmodel!={name}")["items"]
    return set(before["pods"]) - {p["metadata"]["uid"] for p in pods}


@pytest.mark.fault("U4")
def test_a_newer_operator_finishes_the_rollouts_of_the_older_one(
    operator: Any, newer: pathlib.Path
) -> None:
    with operator() as run:
        kube: Kube = run.kube
        for step in STEPS:
            kube.apply(good(step.lower()))
        for step in STEPS:
            kube.wait_for_reason(step.lower(), "Serving", 120)
        bake = {"rollout": {"bakeSeconds": 30}}
        kube.patch("baking", {"model": {"id": "demo/good-2"}, **bake})
        kube.patch("verifying", {"model": {"id": "demo/unreachable"}})
        kube.patch("starting", {"model": {"id": "demo/never-ready"}})
        kube.wait_for_reason("baking", "Baking", 90)
        kube.wait_for_reason("verifying", "VerificationUnreachable", 90)
        kube.wait_for_reason("starting", "Starting", 90)
        kube.patch("inspecting", {"model": {"id": "demo/good-2"}})
        run.end()
        with operator(inside=kube, source=newer):
            kube.wait_for_reason("inspecting", "Serving", 120)
            kube.wait_for_reason("baking", "Serving", 120)
            assert offline(kube, "baking") == "1"
            for name in ("verifying", "starting"):
                assert kube.get("chatmodel", name)["status"]["serving"]["number"] == 1
                kube.patch(name, {"model": {"id": "demo/good-2"}})
                kube.wait_for_reason(name, "Serving", 120)


@pytest.mark.fault("U6")
def test_without_an_operator_models_serve_and_can_be_deleted(operator: Any) -> None:
    with operator() as run:
        kube: Kube = run.kube
        start_good(kube, "left")
        pods = serving_pods(kube, "left")
        run.end()
        assert serving_pods(kube, "left") == pods
        assert "finalizers" not in kube.get("chatmodel", "left")["metadata"]
        kube.run("delete", "chatmodel", "left", "--timeout=10s")
        wait_for(lambda: leftovers(kube) == [], "the garbage collector", 60)


def leftovers(kube: Kube) -> list[str]:
    """Return what is left of ChatModels in a namespace."""
    kinds = "chatmodelrevisions,deployments,services,serviceaccounts,networkpolicies,jobs,secrets"
    kinds += ",pods,poddisruptionbudgets,persistentvolumeclaims"
    return kube.run("get", kinds, "-l", "carepath.ai/chatmodel", "-o", "name").split()


@pytest.mark.fault("U5")
@pytest.mark.parametrize("up", [True, False], ids=["operator is up", "operator is gone"])
def test_a_namespace_goes(operator: Any, up: bool) -> None:
    with operator() as run:
        kube: Kube = run.kube
        start_good(kube, "doomed")
        if not up:
            run.end()
        kube.run("delete", "namespace", kube.namespace, "--timeout=60s")
        with pytest.raises(Refused, match="not found"):
            kube.run("get", "namespace", kube.namespace)
        assert find_complaints(run.log()) == []


@pytest.mark.fault("R13")
def test_a_chatmodel_deleted_at_any_step_leaves_nothing_and_is_not_written_to(
    operator: Any,
) -> None:
    with operator() as run:
        kube: Kube = run.kube
        steps = {
            "never-ready": "Starting",
            "load-fail": "RolledBack",
            "hub-down": "HubUnavailable",
            "unreachable": "VerificationUnreachable",
        }
        kube.apply(*(good(name) for name in steps))
        for name in steps:
            kube.wait_for_reason(name, "Serving", 120)
        for name in steps:
            kube.patch(name, {"model": {"id": f"demo/{name}"}})
        kube.apply(good("at-once"))
        kube.run("delete", "chatmodel", "at-once", "--cascade=foreground", "--wait=false")
        for name, reason in steps.items():
            kube.wait_for_reason(name, reason, 90)
            # In the foreground the ChatModel stays, with a deletionTimestamp, until all is gone.
            kube.run("delete", "chatmodel", name, "--cascade=foreground", "--wait=false")
            wait_for(lambda name=name: is_marked(kube, name), "a deletionTimestamp")
        wait_for(lambda: leftovers(kube) == [], "everything to be gone", 60)
        assert kube.get("chatmodels")["items"] == []
        before = len(run.writes())
        kube.apply(good("after"))
        kube.wait_for_reason("after", "Serving", 120)
        late = [w for w in run.writes()[before:] if "/after" not in w["path"] and names_one(w)]
        assert late == []
        assert find_complaints(run.log()) == []


def names_one(write: Body) -> bool:
    """Say whether a write is to an object by its name; a POST names none."""
    return write["verb"] != "POST"


def is_marked(kube: Kube, name: str) -> bool:
    found = kube.run("get", "chatmodel", name, "--ignore-not-found", "-o", "json")
    return not found or "deletionTimestamp" in json.loads(found)["metadata"]
