"""What kubectl, autoscalers and field selectors make of the three kinds on a real API server."""

import json
from typing import Any

import pytest
import yaml
from kube import ROOT, Body, Kube, Refused, chatmodel, random_name, wait_for

from chatmodel_operator.api import crds

SELECTOR = "carepath.ai/chatmodel=triage,carepath.ai/revision=triage-1,carepath.ai/role=serve"
CLASS: Body = {
    "apiVersion": "carepath.ai/v1alpha1",
    "kind": "InstanceClass",
    "spec": {
        "resources": {"requests": {"cpu": "1500m"}, "limits": {"memory": "7Gi"}},
        "accelerator": {"resourceName": "nvidia.com/gpu", "count": 2},
        "price": {"hourly": "0.526"},
    },
}


def revision(name: str, owner: str, mode: str = "mock") -> Body:
    return {
        "apiVersion": "carepath.ai/v1alpha1",
        "kind": "ChatModelRevision",
        "metadata": {"name": name},
        "spec": {"chatModelName": owner, "number": 1, "source": {"mode": mode}},
    }


def table(kube: Kube, *words: str) -> list[list[str]]:
    return [line.split() for line in kube.run("get", *words).splitlines()]


def test_a_new_chatmodel_is_not_done_before_an_operator_has_seen_it(namespace: Kube) -> None:
    namespace.apply(chatmodel("new", mode="mock"))
    assert namespace.run("get", "chatmodel", "new", "--no-headers").split()[2:4] == [
        "Unknown",
        "Pending",
    ]
    body = namespace.get("chatmodel", "new")
    # kstatus: another generation than the observed one is InProgress, whatever conditions say.
    assert body["status"]["observedGeneration"] != body["metadata"]["generation"]


def patch_status(kube: Kube, kind: str, name: str, **status: Any) -> None:
    body = json.dumps({"status": status})
    kube.run("patch", kind, name, "--subresource=status", "--type=merge", "-p", body)


@pytest.mark.parametrize("kind", ["chatmodels", "chatmodel", "chm"])
def test_a_chatmodel_shows_its_columns_by_each_of_its_names(namespace: Kube, kind: str) -> None:
    namespace.apply(chatmodel("triage", mode="mock"))
    first = "NAME MODE MODEL READY REASON SERVING TARGET PODS AGE"
    assert table(namespace, kind)[0] == first.split()
    wide = f"{first} AVAILABLE CACHE CLASS $/H MESSAGE"
    assert table(namespace, kind, "-o", "wide")[0] == wide.split()


def test_a_revision_shows_its_columns(namespace: Kube) -> None:
    namespace.apply(revision("triage-1", "triage"))
    patch_status(namespace, "chmr", "triage-1", verdict="Verified", seconds=7, outageSeconds=3)
    head, row = table(namespace, "chmr")
    columns = "NAME CHATMODEL NUMBER MODE MODEL VERDICT REASON SECONDS OUTAGE AGE"
    assert head == columns.split()
    assert row[:-1] == "triage-1 triage 1 mock Verified 7 3".split()


def test_a_class_shows_what_it_has_and_costs(cluster: Kube) -> None:
    name = random_name("class")
    cluster.apply(CLASS | {"metadata": {"name": name}})
    try:
        head, row = table(cluster, "instanceclass", name)
        assert head == "NAME CPU MEMORY GPU $/H AGE".split()
        assert row[:-1] == [name, "1500m", "7Gi", "2", "0.526"]
    finally:
        cluster.run("delete", "instanceclass", name)


def test_kubectl_get_all_and_our_category_show_them(namespace: Kube) -> None:
    namespace.apply(chatmodel("triage", mode="mock"), revision("triage-1", "triage"))
    for category in ("all", "carepath"):
        names = namespace.run("get", category, "-o", "name").split()
        assert "chatmodel.carepath.ai/triage" in names
        assert "chatmodelrevision.carepath.ai/triage-1" in names
    cluster_wide = namespace.run("api-resources", "--categories=carepath", "-o", "name").split()
    assert "instanceclasses.carepath.ai" in cluster_wide


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        pytest.param("spec.mode=mock", ["a"], id="mode"),
        pytest.param("spec.mode!=mock", ["b"], id="any other mode"),
        pytest.param("spec.model.id=org/name", ["b"], id="model"),
        pytest.param("spec.instanceClassName=small", ["a"], id="class"),
        pytest.param("spec.instanceClassName=large", [], id="a class nobody has"),
    ],
)
def test_chatmodels_are_found_by_a_field(namespace: Kube, selector: str, found: list[str]) -> None:
    namespace.apply(
        chatmodel("a", mode="mock", instanceClassName="small"),
        chatmodel("b", mode="huggingface", model={"id": "org/name"}),
    )
    items = namespace.get("chatmodels", "--field-selector", selector)["items"]
    assert [item["metadata"]["name"] for item in items] == found


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        pytest.param("spec.chatModelName=triage", ["r1"], id="ChatModel"),
        pytest.param("spec.source.mode=qwen", ["r2"], id="mode"),
        pytest.param("status.verdict=Failed", ["r2"], id="verdict"),
    ],
)
def test_revisions_are_found_by_a_field(namespace: Kube, selector: str, found: list[str]) -> None:
    namespace.apply(revision("r1", "triage"), revision("r2", "other", "qwen"))
    patch_status(namespace, "chmr", "r2", verdict="Failed")
    items = namespace.get("chatmodelrevisions", "--field-selector", selector)["items"]
    assert [item["metadata"]["name"] for item in items] == found


def fields() -> list[str]:
    found = []
    for kind in crds.KINDS:
        for part, schema in (("spec", kind.spec), ("status", kind.status)):
            properties = crds.build_schema(schema)["properties"] if schema else {}
            found += [f"{kind.kind.lower()}.{part}.{name}" for name in properties]
    return found


@pytest.mark.parametrize("field", fields())
def test_explain_has_a_sentence_for_every_field(cluster: Kube, field: str) -> None:
    text = cluster.run("explain", field)
    description = text.partition("DESCRIPTION:")[2].strip()
    assert description[:1].isupper() or description.startswith(("mock, ", "1, 2"))
    assert "<empty>" not in description


def test_explain_says_the_default(cluster: Kube) -> None:
    assert "Default: 60" in cluster.run("explain", "chatmodel.spec.rollout.bakeSeconds")


def test_an_unknown_field_is_refused_when_asked_and_dropped_otherwise(namespace: Kube) -> None:
    body = json.dumps(chatmodel("triage", mode="mock", image="evil:latest"))
    with pytest.raises(Refused, match=r'unknown field "spec\.image"'):
        namespace.run("apply", "--validate=strict", "-f", "-", text=body)
    namespace.run("apply", "--validate=ignore", "-f", "-", text=body)
    assert "image" not in namespace.get("chatmodel", "triage")["spec"]


def test_scale_is_read_and_written_and_has_the_serving_pods_selector(namespace: Kube) -> None:
    namespace.apply(chatmodel("triage", mode="mock", replicas=2))
    patch_status(namespace, "chatmodel", "triage", replicas=1, selector=SELECTOR)
    scale = namespace.get("chatmodel", "triage", "--subresource=scale")
    assert scale["kind"] == "Scale"
    assert scale["spec"] == {"replicas": 2}
    assert scale["status"] == {"replicas": 1, "selector": SELECTOR}
    namespace.run("scale", "chatmodel", "triage", "--replicas=3")
    assert namespace.get("chatmodel", "triage")["spec"]["replicas"] == 3
    with pytest.raises(Refused, match="greater than or equal to 0"):
        namespace.run("scale", "chm/triage", "--replicas=-1")


def test_a_horizontal_pod_autoscaler_scales_a_chatmodel(namespace: Kube) -> None:
    namespace.apply(chatmodel("triage", mode="mock"))
    patch_status(namespace, "chatmodel", "triage", replicas=1, selector=SELECTOR)
    autoscaler = yaml.safe_load((ROOT / "examples/09-autoscaling/autoscaler.yaml").read_text())
    autoscaler["spec"] |= {"minReplicas": 2, "maxReplicas": 4}
    namespace.apply(autoscaler)
    wait_for(
        lambda: namespace.get("chatmodel", "triage")["spec"]["replicas"] == 2,
        "the autoscaler's own least number of replicas",
    )
    conditions = namespace.get("hpa", "triage")["status"]["conditions"]
    assert {c["type"]: c["reason"] for c in conditions}["AbleToScale"] != "FailedGetScale"
