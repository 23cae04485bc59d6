"""Every way a candidate can be bad, on the real API server with pods that kwok plays.

One operator for all; every ChatModel serves before the first test, and each takes one of them.
"""

import pytest
from fake_nodes_story import CLASS, good, serving_pods
from kube import Kube, wait_for

BAD = ("not-found", "load-fail", "crash", "oom", "no-image", "bad-verify", "wrong-identity")
MODELS = (*BAD, "late", "patient", "again", "scaled", "quiet")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        pytest.param("demo/not-found", "ModelNotFound", id="the hub has no such model"),
        pytest.param("demo/load-fail", "ModelLoadFailed", id="the model does not load"),
        pytest.param("demo/crash", "CrashLooping", id="the pod crashes three times"),
        pytest.param("demo/oom", "OOMKilled", id="the pod is killed for its memory"),
        pytest.param("demo/no-image", "ImageNotFound", id="the registry has no such image"),
        pytest.param("demo/bad-verify", "VerificationFailed", id="the answers are wrong"),
        pytest.param("demo/wrong-identity", "VerificationFailed", id="another model answers"),
    ],
)
def test_a_bad_model_is_refused_and_the_good_one_serves(shared, model: str, reason: str) -> None:
    kube: Kube = shared.kube
    name = model.split("/")[1]
    serving = kube.get("chatmodel", name)["status"]["serving"]["revision"]
    kube.patch(name, {"model": {"id": model}})
    ready = kube.wait_for_reason(name, "RolledBack")
    body = kube.get("chatmodel", name)
    assert ready["status"] == "False"
    assert reason in ready["message"]
    assert body["status"]["lastFailure"]["reason"] == reason
    assert body["status"]["serving"]["revision"] == serving
    conditions = {c["type"]: c["status"] for c in body["status"]["conditions"]}
    assert conditions["Available"] == conditions["Degraded"] == conditions["Stalled"] == "True"
    failed = body["status"]["target"]["revision"]
    deployments = kube.get("deployments")["items"]
    assert all(d["spec"]["replicas"] == 0 for d in deployments if d["metadata"]["name"] == failed)


def test_a_model_that_is_never_ready_is_given_up_at_the_deadline(shared) -> None:
    kube: Kube = shared.kube
    patch = {"model": {"id": "demo/never-ready"}, "rollout": {"progressDeadlineSeconds": 10}}
    kube.patch("late", patch)
    ready = kube.wait_for_reason("late", "RolledBack")
    assert "ProgressDeadlineExceeded: no progress within 10 s" in ready["message"]


def test_a_hub_that_is_down_is_not_blamed_on_the_model(shared) -> None:
    kube: Kube = shared.kube
    kube.patch("patient", {"model": {"id": "demo/hub-down"}})
    kube.wait_for_reason("patient", "HubUnavailable")
    status = kube.get("chatmodel", "patient")["status"]
    verdict = kube.get("chatmodelrevision", status["target"]["revision"])["status"]["verdict"]
    assert verdict == "Pending"
    assert {c["type"]: c["status"] for c in status["conditions"]}["Available"] == "True"


def test_a_failed_model_is_not_tried_again_until_asked_to(shared) -> None:
    kube: Kube = shared.kube
    kube.patch("again", {"model": {"id": "demo/load-fail"}})
    kube.wait_for_reason("again", "RolledBack")
    kube.patch("again", {"model": {"id": "demo/good"}})
    kube.wait_for_reason("again", "Serving")
    kube.patch("again", {"model": {"id": "demo/load-fail"}})
    # At once: the verdict is remembered, nothing is started.
    kube.wait_for_reason("again", "RolledBack", 10)
    failed = kube.get("chatmodel", "again")["status"]["target"]["revision"]
    first = kube.get("chatmodelrevision", failed)["status"]["failedAt"]
    kube.run("annotate", "chatmodel", "again", "carepath.ai/retry=1")
    wait_for(
        lambda: kube.get("chatmodelrevision", failed)["status"].get("failedAt", first) > first,
        "a second verdict",
    )


def test_replicas_stop_and_start_what_serves(shared) -> None:
    kube: Kube = shared.kube
    kube.run("scale", "chatmodel", "scaled", "--replicas=0")
    kube.wait_for_reason("scaled", "Stopped")
    wait_for(lambda: not serving_pods(kube, "scaled"), "the pods to go")
    kube.run("scale", "chatmodel", "scaled", "--replicas=2")
    kube.wait_for_reason("scaled", "Serving")
    wait_for(lambda: len(serving_pods(kube, "scaled")) == 2, "two pods")


def test_a_first_model_that_is_bad_has_nothing_to_go_back_to(shared) -> None:
    kube: Kube = shared.kube
    kube.apply(good("first", model={"id": "demo/load-fail"}))
    ready = kube.wait_for_reason("first", "NoPreviousRevision")
    assert "ModelLoadFailed" in ready["message"]
    kube.patch("first", {"model": {"id": "demo/good"}})
    kube.wait_for_reason("first", "Serving")


def test_a_class_that_is_not_there_is_waited_for(shared) -> None:
    kube: Kube = shared.kube
    kube.apply(good("classless", instanceClassName="no-such-class"))
    ready = kube.wait_for_reason("classless", "InstanceClassNotFound")
    assert "there is no InstanceClass no-such-class; there are:" in ready["message"]
    assert CLASS in ready["message"]


def test_nothing_is_written_when_nothing_changes(shared) -> None:
    kube: Kube = shared.kube
    wait_for(lambda: _is_quiet(kube, shared), "the operator to be quiet for three seconds", 60)


def _is_quiet(kube: Kube, shared) -> bool:
    before = len(shared.writes())
    for _ in range(3):  # wake it up: an annotation nobody reads
        kube.run("annotate", "--overwrite", "chatmodel", "quiet", f"note=n{before}-{_}")
        kube.run("wait", "--for=jsonpath={.metadata.name}=quiet", "chatmodel/quiet", "--timeout=1s")
    kube.wait_for_reason("quiet", "Serving")
    return len(shared.writes()) == before


@pytest.fixture(scope="module")
def shared(operator):
    """One undisturbed operator for all the tests here; each has a ChatModel of its own."""
    with operator() as run:
        run.kube.apply(*(good(name) for name in MODELS))
        for name in MODELS:
            run.kube.wait_for_reason(name, "Serving", 180)
        yield run
