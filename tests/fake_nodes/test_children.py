"""What others do to the operator's children: deleted, edited, stripped, refused, or in the way.

One operator for all; every ChatModel is made at once, and each test takes one of them.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fake_nodes_story import good, serving_pods
from kube import Body, Kube, random_name, wait_for
from oracles import find_complaints, find_misplaced

SECONDS = 10  # within which a child is as it should be again
OWNER = "carepath.ai/chatmodel"
MODELS = ("deleted", "edited", "foreign", "stripped", "fought")


@pytest.fixture(scope="module")
def team(operator: Any) -> Iterator[Any]:
    """A namespace in which every ChatModel serves."""
    with operator() as run:
        run.kube.apply(*(good(name, replicas=2) for name in MODELS))
        for name in MODELS:
            run.kube.wait_for_reason(name, "Serving", 180)
        yield run
        assert find_misplaced(run.writes(), run.kube.namespace) == []
        assert find_complaints(run.log()) == []


def child(kube: Kube, kind: str, name: str) -> Body:
    """Return the one child of a kind; {} while there is none."""
    items = kube.get(kind, "-l", f"{OWNER}={name}")["items"]
    return dict(items[0]) if items else {}


def patch(kube: Kube, kind: str, name: str, body: Any, way: str = "merge") -> None:
    kube.run("patch", kind, name, f"--type={way}", "-p", json.dumps(body))


def has(live: Any, wanted: Any) -> bool:
    """Say whether a part is in an object, of lists all or nothing."""
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(has(live.get(k), v) for k, v in wanted.items())
    return bool(live == wanted)


@pytest.mark.fault("B1")
@pytest.mark.parametrize(
    "kind",
    [
        "serviceaccount",
        "service",
        "networkpolicy",
        "poddisruptionbudget",
        "chatmodelrevision",
        "deployment",
    ],
)
def test_a_child_that_was_deleted_comes_back(team: Any, kind: str) -> None:
    kube: Kube = team.kube
    before = child(kube, kind, "deleted")
    kube.run("delete", kind, before["metadata"]["name"], "--wait=false")
    gone = before["metadata"]["uid"]

    def is_back() -> bool:
        now = child(kube, kind, "deleted")
        return bool(now) and now["metadata"]["uid"] != gone and has(now, kept)

    kept: Body = {
        "chatmodelrevision": {"spec": {"number": 1}, "status": {"verdict": "Verified"}},
        "service": {"spec": {"selector": before.get("spec", {}).get("selector")}},
    }.get(kind, {})
    wait_for(is_back, f"another {kind}", SECONDS)
    kube.wait_for_reason("deleted", "Serving")


@pytest.mark.fault("B1")
def test_pods_outlive_a_deployment_that_was_deleted_without_them(team: Any) -> None:
    kube: Kube = team.kube
    kube.wait_for_reason("deleted", "Serving")
    wait_for(lambda: len(serving_pods(kube, "deleted")) == 2, "two pods")
    pods = sorted(serving_pods(kube, "deleted"))
    before = child(kube, "deployment", "deleted")["metadata"]
    kube.run("delete", "deployment", before["name"], "--cascade=orphan", "--wait=false")

    def has_pods() -> bool:
        now = child(kube, "deployment", "deleted")
        is_new = bool(now) and now["metadata"]["uid"] != before["uid"]
        return is_new and now.get("status", {}).get("readyReplicas") == 2

    wait_for(has_pods, "another Deployment, with the pods", 30)
    assert sorted(serving_pods(kube, "deleted")) == pods


@pytest.mark.fault("B2")
@pytest.mark.parametrize(
    ("kind", "edit"),
    [
        pytest.param("service", {"spec": {"selector": {"carepath.ai/revision": "other"}}},
                     id="traffic is turned away"),
        pytest.param("deployment", {"spec": {"replicas": 0}}, id="pods are scaled away"),
        pytest.param("networkpolicy", {"spec": {"egress": []}}, id="the network is closed"),
        pytest.param("serviceaccount", {"automountServiceAccountToken": True},
                     id="a token is mounted"),
        pytest.param("poddisruptionbudget", {"spec": {"maxUnavailable": 0}},
                     id="no pod may be drained"),
    ],
)  # fmt: skip
def test_an_edit_of_our_fields_is_undone(team: Any, kind: str, edit: Body) -> None:
    kube: Kube = team.kube
    before = child(kube, kind, "edited")
    patch(kube, kind, before["metadata"]["name"], edit)
    ours = {part: before.get(part) for part in edit}
    wait_for(lambda: has(child(kube, kind, "edited"), ours), f"the {kind} as it was", SECONDS)
    kube.wait_for_reason("edited", "Serving")
    assert kube.get("chatmodel", "edited")["status"]["serving"]["number"] == 1


@pytest.mark.fault("B3")
def test_fields_of_others_are_kept(team: Any) -> None:
    kube: Kube = team.kube
    theirs = {"labels": {"team": "blue"}, "annotations": {"example.com/note": "kept"}}
    kinds = ("service", "deployment", "serviceaccount", "networkpolicy", "chatmodelrevision")
    for kind in kinds:
        name = child(kube, kind, "foreign")["metadata"]["name"]
        patch(kube, kind, name, {"metadata": theirs})
    # An autoscaler writes the ChatModel's scale, and owns nothing of the Deployment.
    kube.run("scale", "chatmodel", "foreign", "--replicas=3")
    wait_for(lambda: len(serving_pods(kube, "foreign")) == 3, "three pods")
    for kind in kinds:
        assert has(child(kube, kind, "foreign")["metadata"], theirs), kind


@pytest.mark.fault("B4")
@pytest.mark.parametrize("part", ["ownerReferences", "labels"])
@pytest.mark.parametrize("kind", ["service", "deployment", "networkpolicy", "chatmodelrevision"])
def test_what_was_stripped_is_restored(team: Any, kind: str, part: str) -> None:
    kube: Kube = team.kube
    before = child(kube, kind, "stripped")["metadata"]
    patch(kube, kind, before["name"], [{"op": "remove", "path": f"/metadata/{part}"}], "json")

    def is_whole() -> bool:
        now = child(kube, kind, "stripped").get("metadata", {})
        return has(now, {part: before[part], "uid": before["uid"]})

    wait_for(is_whole, f"{part} of the {kind}", SECONDS)
    kube.wait_for_reason("stripped", "Serving")
    assert len(kube.get("deployments", "-l", f"{OWNER}=stripped")["items"]) == 1


@pytest.mark.fault("B2")
def test_somebody_who_does_not_give_in_is_told_of_and_not_fought(team: Any) -> None:
    kube: Kube = team.kube
    label = "app.kubernetes.io/name"

    def value() -> str:
        return str(kube.get("service", "fought")["metadata"]["labels"].get(label))

    for turn in range(5):
        kube.run("label", "--overwrite", "service", "fought", f"{label}=theirs-{turn}")
        wait_for(lambda: value() == "chatmodel", f"repair {turn + 1}", SECONDS)
    kube.run("label", "--overwrite", "service", "fought", f"{label}=theirs")
    ready = kube.wait_for_reason("fought", "DriftContested")
    assert f"metadata.labels.{label} was put back 5 times" in ready["message"]
    assert value() == "theirs"
    status = kube.get("chatmodel", "fought")["status"]
    assert {c["type"]: c["status"] for c in status["conditions"]}["Available"] == "True"
    kube.run("label", "--overwrite", "service", "fought", f"{label}=chatmodel")
    kube.wait_for_reason("fought", "Serving")


@pytest.mark.fault("B7")
def test_an_object_of_somebody_else_in_the_way_is_left_alone(team: Any) -> None:
    kube: Kube = team.kube
    kube.run("create", "service", "clusterip", "taken", "--tcp=80")
    theirs = kube.get("service", "taken")["metadata"]["uid"]
    kube.apply(good("taken"))
    ready = kube.wait_for_reason("taken", "NameConflict")
    assert "taken: exists and is not ours" in ready["message"]
    assert kube.get("service", "taken")["metadata"]["uid"] == theirs
    assert "ownerReferences" not in kube.get("service", "taken")["metadata"]
    kube.run("delete", "service", "taken")
    kube.wait_for_reason("taken", "Serving", 120)


@pytest.mark.fault("B5")
def test_a_policy_that_adds_to_our_pods_is_not_fought(team: Any) -> None:
    kube: Kube = team.kube
    name = random_name("adds")
    kube.apply(*adding_policy(name, kube.namespace))
    try:
        wait_for(lambda: adds(kube), "the policy to work", 30)
        kube.apply(good("added"))
        kube.wait_for_reason("added", "Serving", 120)
        found = child(kube, "deployment", "added")
        pod = found["spec"]["template"]["spec"]
        assert {"name": "ADDED", "value": "1"} in pod["containers"][0]["env"]
        before = len(team.writes())
        for turn in range(3):
            kube.run("annotate", "--overwrite", "chatmodel", "added", f"note=n{turn}")
        kube.wait_for_reason("added", "Serving")
        wrote = [w for w in team.writes()[before:] if "/added" in w["path"]]
        assert wrote == []
    finally:
        kube.run("delete", "mutatingadmissionpolicybinding,mutatingadmissionpolicy", name)


def adding_policy(name: str, namespace: str) -> tuple[Body, Body]:
    """Return a policy that gives every container of a namespace's Deployments a variable."""
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}}
    expression = (
        "Object{spec: Object.spec{template: Object.spec.template{spec: "
        "Object.spec.template.spec{containers: object.spec.template.spec.containers.map(c, "
        "Object.spec.template.spec.containers{name: c.name, env: "
        '[Object.spec.template.spec.containers.env{name: "ADDED", value: "1"}]})}}}}'
    )
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
    rules = [rule | {"operations": ["CREATE", "UPDATE"]}]
    spec = {
        "matchConstraints": {"resourceRules": rules},
        "reinvocationPolicy": "Never",
        "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
        ],
    }
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    bound = {"policyName": name, "matchResources": {"namespaceSelector": selector}}
    return (
        kind | {"kind": "MutatingAdmissionPolicy", "spec": spec},
        kind | {"kind": "MutatingAdmissionPolicyBinding", "spec": bound},
    )


def adds(kube: Kube) -> bool:
    """Say whether the policy changes a Deployment by now."""
    words = ("deployment", "probe", "--image=x", "--dry-run=server", "-o", "json")
    return "ADDED" in kube.run("create", *words)


@pytest.mark.fault("B6")
@pytest.mark.parametrize(
    ("limit", "reason", "words"),
    [
        pytest.param(
            {"kind": "ResourceQuota", "spec": {"hard": {"pods": "0"}}},
            "QuotaExceeded",
            "exceeded quota",
            id="a quota",
        ),
        pytest.param(
            {
                "kind": "LimitRange",
                "spec": {"limits": [{"type": "Container", "max": {"memory": "1Mi"}}]},
            },
            "AdmissionDenied",
            "maximum memory usage per Container is 1Mi",
            id="a limit",
        ),
    ],
)
def test_pods_that_are_refused_are_waited_for(
    team: Any, limit: Body, reason: str, words: str
) -> None:
    kube: Kube = team.kube
    name = reason.lower()
    # Mock models have no inspect Job, whose pod would be refused as well.
    kube.apply({"apiVersion": "v1", "metadata": {"name": name}, **limit})
    kube.apply(good(name, mode="mock"))
    try:
        ready = kube.wait_for_reason(name, reason)
        assert words in ready["message"]
        revision = kube.get("chatmodel", name)["status"]["target"]["revision"]
        assert kube.get("chatmodelrevision", revision)["status"]["verdict"] == "Pending"
    finally:
        kube.run("delete", limit["kind"], name)
    kube.wait_for_reason(name, "Serving", 180)
