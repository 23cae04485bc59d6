"""The three kinds on a real API server: what it takes, what it refuses, and in which words."""

import pathlib
from typing import Any

import pytest
import yaml
from kube import ROOT, Body, Kube, Refused, chatmodel

EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*/chatmodel.yaml"))
SPEC: Body = {"mode": "mock"}

DEFINITION = "CustomResourceDefinition"


def model(**spec: Any) -> Body:
    return chatmodel("triage", **(SPEC | spec))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_every_example_is_taken(namespace: Kube, path: pathlib.Path) -> None:
    namespace.run("apply", "--dry-run=server", "--validate=strict", "-f", str(path))


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        pytest.param("1-unknown-mode", 'supported values: "mock", "qwen"', id="unknown mode"),
        pytest.param("2-no-model-id", "model.id is required for mode huggingface", id="no model"),
        pytest.param("3-negative-replicas", "greater than or equal to 0", id="negative replicas"),
        pytest.param("5-unknown-field", 'unknown field "spec.image"', id="unknown field"),
        pytest.param("6-name-too-long", "metadata.name must be at most 40", id="name too long"),
    ],
)
def test_a_wrong_object_is_refused_with_a_sentence(
    namespace: Kube, file: str, sentence: str
) -> None:
    path = ROOT / "examples/invalid" / f"{file}.yaml"
    with pytest.raises(Refused, match=sentence.replace("(", r"\(")):
        namespace.run("apply", "--dry-run=server", "--validate=strict", "-f", str(path))


def test_defaults_are_filled_in_by_the_server(namespace: Kube) -> None:
    namespace.apply(model())
    spec = namespace.get("chatmodel", "triage")["spec"]
    assert spec["replicas"] == 1
    assert spec["generation"]["maxNewTokens"] == 512
    assert spec["rollout"]["bakeSeconds"] == 60
    assert spec["auth"] == {"mode": "ApiKey"}


def revision(name: str, **spec: Any) -> Body:
    whole = {"chatModelName": "triage", "number": 1, "source": {"mode": "mock"}} | spec
    return {
        "apiVersion": "carepath.ai/v1alpha1",
        "kind": "ChatModelRevision",
        "metadata": {"name": name},
        "spec": whole,
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("commit", "a" * 40, id="commit"),
        pytest.param("engine", "Mock", id="engine"),
        pytest.param("template", {"spec": {"x": 1}}, id="template"),
        pytest.param("rendererVersion", "1", id="renderer version"),
    ],
)
def test_what_a_revision_was_given_cannot_be_taken_away(
    namespace: Kube, field: str, value: Any
) -> None:
    namespace.apply(revision("r", **{field: value}))
    with pytest.raises(Refused, match=f"{field} is set once"):
        namespace.run("patch", "chmr", "r", "--type=merge", "-p", f'{{"spec":{{"{field}":null}}}}')


def test_the_installation_is_taken_whole(cluster: Kube) -> None:
    path = ROOT / "deploy/install.yaml"
    cluster.run("apply", "-f", str(ROOT / "deploy/namespace.yaml"))
    cluster.inside("chatmodel-system").run(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", str(path)
    )
    bodies = list(yaml.safe_load_all(path.read_text()))
    defined = {b["spec"]["names"]["kind"] for b in bodies if b["kind"] == DEFINITION}
    assert len(defined) == 3
    # On a cluster that does not know the kind yet, kubectl would refuse the whole file.
    assert defined.isdisjoint(body["kind"] for body in bodies)
    classes = str(ROOT / "deploy/classes.yaml")
    cluster.run("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", classes)


def test_the_operator_may_not_read_secrets(cluster: Kube) -> None:
    cluster.run("apply", "-f", str(ROOT / "deploy/namespace.yaml"))
    cluster.inside("chatmodel-system").run("apply", "-f", str(ROOT / "deploy/rbac.yaml"))
    who = "--as=system:serviceaccount:chatmodel-system:chatmodel-operator"
    assert cluster.run("auth", "can-i", "create", "secrets", who).strip() == "yes"
    for verb in ("get", "list", "watch", "patch", "delete"):
        with pytest.raises(Refused):
            cluster.run("auth", "can-i", verb, "secrets", who)
