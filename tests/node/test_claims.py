"""Staged models on a claim, on a real node: shared, pruned, corrupted, lost, kept, full."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import models
import pytest
import small_disks
from caches import (
    CLAIM,
    QWEN,
    SECONDS,
    TWIN,
    WRONG,
    Cached,
    asked_for_weights,
    fill,
    is_ready,
    is_refused,
    spec_of,
)
from kube import Body, Kube, chatmodel, random_name, wait_for

FLIP = """
import pathlib
for path in pathlib.Path("/models").glob("Qwen--*/*/model.safetensors"):
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
"""
TOO_BIG: Body = {"mode": "huggingface", "model": {"id": "demo/too-big"}}


def start(kube: Kube, mode: str = "qwen", **cache: Any) -> Cached:
    """Start a ChatModel with a claim, and wait until it serves."""
    spec = spec_of("Persistent", mode=mode, model={})
    kube.apply(chatmodel("triage", **spec | {"cache": {"strategy": "Persistent", **cache}}))
    kube.wait_for_reason("triage", "Serving", SECONDS)
    return Cached(kube)


@pytest.fixture(scope="module")
def shared(installed: Kube) -> Iterator[Cached]:
    """A ChatModel with a claim, for all tests that leave it as they found it."""
    kube = installed.inside(random_name("claim"))
    kube.run("create", "namespace", kube.namespace)
    yield start(kube)
    kube.run("delete", "chatmodels", "--all", "--wait=false")
    kube.run("delete", "namespace", kube.namespace, "--wait=false")


@pytest.fixture
def live(shared: Cached) -> Cached:
    """The stand-in, served from a claim by one pod."""
    shared.serve(QWEN | {"replicas": 1}, models.QWEN)
    wait_for(lambda: [is_ready(pod) for pod in shared.pods()] == [True], "one Ready pod", SECONDS)
    return shared


def claim(kube: Kube) -> Body:
    return kube.get("pvc", CLAIM)


def run_on_claim(kube: Kube, code: str) -> None:
    """Run Python in a pod that may write on the claim."""
    container = {
        "name": "writer",
        "image": "localhost/chatmodel-hub:dev",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", code],
        "securityContext": {"runAsUser": 10001},
        "volumeMounts": [{"name": "models", "mountPath": "/models"}],
    }
    volume = {"name": "models", "persistentVolumeClaim": {"claimName": CLAIM}}
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
    meta = {"name": "writer"}
    kube.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
    done = "--for=jsonpath={.status.phase}=Succeeded"
    kube.run("wait", done, "pod/writer", "--timeout=60s")
    kube.run("delete", "pod", "writer")


def test_a_claim_that_waits_for_its_first_pod_is_no_fault(live: Cached) -> None:
    events = live.kube.get("events")["items"]
    waited = [e["reason"] for e in events if e["involvedObject"]["name"] == CLAIM]
    assert "WaitForFirstConsumer" in waited
    said = {e["reason"] for e in events if e["involvedObject"]["kind"] == "ChatModel"}
    assert not said & {"WaitingForVolume", "StorageClassMissing"}


def test_serving_pods_cannot_write_on_the_claim(live: Cached) -> None:
    assert is_refused(lambda: live.python("open('/models/x', 'w')"), "Read-only file system")


def test_two_replicas_share_the_claim_on_one_node(live: Cached) -> None:
    live.kube.run("scale", "chatmodel", "triage", "--replicas=2")
    wait_for(lambda: sum(map(is_ready, live.pods())) == 2, "two Ready pods", SECONDS)
    assert len({pod["spec"]["nodeName"] for pod in live.pods()}) == 1
    assert claim(live.kube)["spec"]["accessModes"] == ["ReadWriteOnce"]


@pytest.mark.fault("C9")
def test_the_last_good_model_is_kept_and_older_ones_are_pruned(live: Cached) -> None:
    def staged() -> set[str]:
        return {path.split("/")[2] for path in live.files()}

    live.serve(TWIN, models.TWIN)
    assert staged() == {"Qwen--Qwen3-4B-Thinking-2507", "demo--twin"}
    twin = {path: digest for path, digest in live.files().items() if "twin" in path}
    live.kube.patch("triage", WRONG)
    live.kube.wait_for_reason("triage", "RolledBack", SECONDS)
    assert staged() == {"demo--twin", "demo--wrong-shapes"}
    assert live.files().items() >= twin.items()
    # What was pruned is staged again when it is wanted again.
    live.serve(QWEN, models.QWEN)
    assert live.answer_of(models.QWEN)
    assert staged() == {"Qwen--Qwen3-4B-Thinking-2507", "demo--twin"}


def test_a_file_that_was_changed_is_never_loaded_and_fetched_afresh(live: Cached) -> None:
    good = live.files()
    run_on_claim(live.kube, FLIP)
    assert live.files() != good
    assert live.answer()["model"] == models.QWEN
    seen: set[str] = set()
    old = live.pods()[0]["metadata"]
    live.kube.run("delete", "pod", old["name"], "--wait=false")

    def is_healed() -> bool:
        seen.update(live.reports())
        return live.has_another_ready_pod(old["uid"])

    wait_for(is_healed, f"another Ready pod; pods said {seen}", SECONDS)
    assert "IntegrityError" in seen
    assert live.files() == good
    assert live.answer()["model"] == models.QWEN


def test_a_claim_deleted_by_hand_outlives_its_pods_and_is_filled_again(live: Cached) -> None:
    kube = live.kube
    # A new claim is empty: only what serves is put on it; the last good comes when it is wanted.
    good = {path: digest for path, digest in live.files().items() if "Qwen" in path}
    before, pod = claim(kube)["metadata"]["uid"], live.pods()[0]["metadata"]["uid"]
    kube.run("delete", "pvc", CLAIM, "--wait=false")
    assert "deletionTimestamp" in claim(kube)["metadata"]
    assert live.answer()["model"] == models.QWEN
    assert (claim(kube)["metadata"]["uid"], live.pods()[0]["metadata"]["uid"]) == (before, pod)
    live.lose_pod()
    assert claim(kube)["metadata"]["uid"] != before
    assert live.files() == good
    assert live.answer()["model"] == models.QWEN


def test_a_retained_claim_is_taken_over_without_a_download(
    installed: Kube, namespace: Kube
) -> None:
    live = start(namespace, reclaimPolicy="Retain")
    before, asked = claim(namespace)["metadata"], asked_for_weights(namespace)
    assert "ownerReferences" not in before
    namespace.run("delete", "chatmodel", "triage")
    gone = "--for=delete"
    namespace.run("wait", gone, "pods", "-l", "carepath.ai/chatmodel=triage", "--timeout=60s")
    assert claim(namespace)["metadata"]["uid"] == before["uid"]
    start(namespace, reclaimPolicy="Retain")
    assert claim(namespace)["metadata"]["uid"] == before["uid"]
    assert live.answer()["model"] == models.QWEN
    assert asked_for_weights(namespace) == asked


def test_a_storage_class_that_is_missing_is_named(installed: Kube, namespace: Kube) -> None:
    live = start(namespace, "mock", storageClassName="nope")
    namespace.patch("triage", {"mode": "qwen"})
    ready = namespace.wait_for_reason("triage", "StorageClassMissing", SECONDS)
    assert '"nope"' in ready["message"]
    assert live.answer()["llm_mode"] == "mock"
    live.serve({"mode": "mock"}, None)


def test_a_claim_too_small_for_the_next_model_is_said_with_both_numbers(
    installed: Kube, namespace: Kube
) -> None:
    live = start(namespace, size="64Mi")
    pods = live.pods()
    namespace.patch("triage", TOO_BIG)
    ready = namespace.wait_for_reason("triage", "InsufficientStorage", SECONDS)
    assert "the claim has 67.1 MB" in ready["message"]
    assert " GB" in ready["message"]
    assert [p["metadata"]["uid"] for p in live.pods()] == [p["metadata"]["uid"] for p in pods]
    live.serve(QWEN, models.QWEN)


@pytest.fixture
def small_disk(namespace: Kube, tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system of 64 MiB, offered as a volume of 4 GiB under a class of this test's own."""
    with small_disks.mounted(tmp_path / "disk", 64) as folder:
        terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "Exists"}]}]
        spec = {
            "capacity": {"storage": "4Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": namespace.namespace,
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        }
        meta = {"name": namespace.namespace}
        namespace.apply(
            {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": spec}
        )
        yield folder
        namespace.run("delete", "chatmodels", "--all")
        namespace.run("delete", "pods", "--all", "--grace-period=1", "--timeout=60s")
        namespace.run("delete", "pv", namespace.namespace, "--wait=false")


def test_a_full_disk_harms_neither_who_serves_nor_who_starts(
    installed: Kube, namespace: Kube, small_disk: pathlib.Path
) -> None:
    live = start(namespace, storageClassName=namespace.namespace, size="4Gi")
    good = live.files()
    namespace.patch("triage", TOO_BIG)
    ready = namespace.wait_for_reason("triage", "InsufficientStorage", SECONDS)
    numbers = [int(word) for word in ready["message"].split() if word.isdigit()]
    assert len(numbers) == 2
    assert numbers[0] > 10**9 > numbers[1]
    live.serve(QWEN, models.QWEN)
    fill(small_disk)
    live.lose_pod()
    assert live.files().items() >= good.items()
    assert live.answer()["model"] == models.QWEN
    assert (
        json.loads(namespace.run("get", "pvc", CLAIM, "-o", "json"))["status"]["phase"] == "Bound"
    )
