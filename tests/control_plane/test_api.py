"""The three kinds on a real API server: what it takes, what it refuses, and in which words."""

import pathlib
from typing import Any

import pytest
import yaml
from kube import ROOT, Body, Kube, Refused, chatmodel, random_name

EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*/chatmodel.yaml"))
SPEC: Body = {"mode": "mock"}


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


@pytest.mark.parametrize(
    ("taken", "refused", "sentence"),
    [
        pytest.param(
            {"mode": "huggingface", "model": {"id": "hf://org/name"}},
            {"mode": "huggingface", "model": {"revision": "v1"}},
            "model.id is required",
            id="huggingface needs a model",
        ),
        pytest.param(
            {"patientContext": {"source": "Http", "url": "http://patients:8001"}},
            {"patientContext": {"source": "Http"}},
            "url is required with source Http",
            id="a patient API needs its address",
        ),
        pytest.param(
            {"patientContext": {"source": "Demo"}},
            {"patientContext": {"source": "Demo", "url": "http://patients:8001"}},
            "url is required with source Http, and only then",
            id="an address without a patient API is a mistake",
        ),
        pytest.param(
            {"model": {"id": "org/name"}},
            {"model": {"id": "../etc/passwd"}},
            "should match",
            id="a model id is an organisation and a name",
        ),
        pytest.param(
            {"generation": {"temperature": 0}},
            {"generation": {"temperature": 3}},
            "less than or equal to 2",
            id="temperature has a range",
        ),
        pytest.param(
            {"rollout": {"progressDeadlineSeconds": 10}},
            {"rollout": {"progressDeadlineSeconds": 1}},
            "greater than or equal to 10",
            id="a deadline has a least value",
        ),
    ],
)
def test_each_rule_takes_one_and_refuses_another(
    namespace: Kube, taken: Body, refused: Body, sentence: str
) -> None:
    namespace.apply(model(**taken))
    with pytest.raises(Refused, match=sentence):
        namespace.apply(model(**refused))


def test_defaults_are_filled_in_by_the_server(namespace: Kube) -> None:
    namespace.apply(model())
    spec = namespace.get("chatmodel", "triage")["spec"]
    assert spec["replicas"] == 1
    assert spec["generation"]["maxNewTokens"] == 512
    assert spec["rollout"]["bakeSeconds"] == 60
    assert spec["auth"] == {"mode": "ApiKey"}


def test_the_scale_subresource_sets_replicas(namespace: Kube) -> None:
    namespace.apply(model())
    namespace.run("scale", "chatmodel", "triage", "--replicas=3")
    assert namespace.get("chatmodel", "triage")["spec"]["replicas"] == 3


def test_short_names_columns_and_field_selectors_work(namespace: Kube) -> None:
    namespace.apply(model())
    head = namespace.run("get", "chm", "-o", "wide").splitlines()[0].split()
    assert head == [
        *"NAME MODE MODEL READY REASON SERVING TARGET PODS AGE".split(),
        *"AVAILABLE CLASS MESSAGE".split(),
    ]
    assert namespace.get("chatmodels", "--field-selector", "spec.mode=mock")["items"]
    assert not namespace.get("chatmodels", "--field-selector", "spec.mode=qwen")["items"]


def test_explain_says_what_a_field_does_and_its_default(namespace: Kube) -> None:
    text = namespace.run("explain", "chatmodel.spec.rollout.bakeSeconds")
    assert "Default: 60" in text


def revision(name: str, **spec: Any) -> Body:
    whole = {"chatModelName": "triage", "number": 1, "source": {"mode": "mock"}} | spec
    return {
        "apiVersion": "carepath.ai/v1alpha1",
        "kind": "ChatModelRevision",
        "metadata": {"name": name},
        "spec": whole,
    }


@pytest.mark.parametrize(
    ("field", "first", "second"),
    [
        pytest.param("commit", "a" * 40, "b" * 40, id="commit"),
        pytest.param("engine", "Mock", "Transformers", id="engine"),
        pytest.param("template", {"spec": {"x": 1}}, {"spec": {"x": 2}}, id="template"),
        pytest.param("rendererVersion", "1", "2", id="renderer version"),
    ],
)
def test_a_revision_is_filled_in_once_and_never_changed(
    namespace: Kube, field: str, first: Any, second: Any
) -> None:
    namespace.apply(revision("r"))
    namespace.apply(revision("r", **{field: first}))
    with pytest.raises(Refused, match=f"{field} is set once"):
        namespace.apply(revision("r", **{field: second}))
    with pytest.raises(Refused, match=f"{field} is set once"):
        namespace.run("patch", "chmr", "r", "--type=merge", "-p", f'{{"spec":{{"{field}":null}}}}')


def test_what_identifies_a_revision_is_immutable(namespace: Kube) -> None:
    namespace.apply(revision("r"))
    for change in ({"number": 2}, {"source": {"mode": "qwen"}}, {"chatModelName": "other"}):
        with pytest.raises(Refused, match="is immutable"):
            namespace.apply(revision("r", **change))


def test_a_class_is_immutable_but_for_its_price(cluster: Kube) -> None:
    name = random_name("class")
    resources = {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}
    body = {
        "apiVersion": "carepath.ai/v1alpha1",
        "kind": "InstanceClass",
        "metadata": {"name": name},
        "spec": {"resources": resources},
    }
    cluster.apply(body)
    try:
        cluster.apply(body | {"spec": {"resources": resources, "price": {"hourly": "0.05"}}})
        larger = resources | {"limits": {"memory": "2Gi"}}
        with pytest.raises(Refused, match="resources are immutable: make a new class"):
            cluster.apply(body | {"spec": {"resources": larger}})
        with pytest.raises(Refused, match="nodeSelector is immutable"):
            changed = {"resources": resources, "nodeSelector": {"a": "b"}}
            cluster.apply(body | {"spec": changed})
    finally:
        cluster.run("delete", "instanceclass", name)


def test_the_installation_is_taken_whole(cluster: Kube) -> None:
    path = ROOT / "deploy/install.yaml"
    cluster.run("apply", "-f", str(ROOT / "deploy/namespace.yaml"))
    cluster.inside("chatmodel-system").run(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", str(path)
    )
    kinds = [body["kind"] for body in yaml.safe_load_all(path.read_text())]
    assert kinds.count("CustomResourceDefinition") == 3


def test_the_operator_may_not_read_secrets(cluster: Kube) -> None:
    cluster.run("apply", "-f", str(ROOT / "deploy/namespace.yaml"))
    cluster.inside("chatmodel-system").run("apply", "-f", str(ROOT / "deploy/rbac.yaml"))
    who = "--as=system:serviceaccount:chatmodel-system:chatmodel-operator"
    assert cluster.run("auth", "can-i", "create", "secrets", who).strip() == "yes"
    for verb in ("get", "list", "watch", "patch", "delete"):
        with pytest.raises(Refused):
            cluster.run("auth", "can-i", verb, "secrets", who)
