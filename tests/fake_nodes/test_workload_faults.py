"""Every sign of the table in docs/design.md, 4.3, that a fake node can give: reason, words, deed.

All ChatModels serve and are then asked for their candidate at once; each test looks at one. Most
signs are put on the candidate's pod by the test, as a kubelet would.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from fake_nodes_story import candidate_pod, ended, good, instance_class, show, waiting
from kube import Body, Kube, wait_for
from oracles import find_complaints, find_misplaced

HUGE_CLASS = "fake-huge"
NO_ROUTE = 'failed to do request: Head "https://registry/v2/": dial tcp: connect: refused'


@dataclasses.dataclass(frozen=True)
class Sign:
    """What is seen on a candidate, and what has to follow."""

    row: str
    name: str
    reason: str
    words: str
    bad: bool
    shown: Body | None = None  # on the candidate's pod
    model: str = "never-ready"
    spec: Body = dataclasses.field(default_factory=dict)


def inspected(row: str, model: str, reason: str, words: str, *, bad: bool) -> Sign:
    return Sign(row, model, reason, words, bad, model=model)


SIGNS = (
    Sign("W3", "bad-image-name", "InvalidImageName", "cannot parse", True,
         {"state": waiting("InvalidImageName", "cannot parse the name")}),
    Sign("W3", "registry-down", "RegistryUnavailable", "connect: refused", False,
         {"state": waiting("ImagePullBackOff", NO_ROUTE)}),
    Sign("W4", "root-image", "ConfigError", "will run as root", True,
         {"state": waiting("CreateContainerConfigError", "image will run as root")}),
    Sign("B9", "no-secret", "SecretNotFound", 'secret "hub" not found', False,
         {"state": waiting("CreateContainerConfigError", 'secret "hub" not found')}),
    Sign("B9", "no-key", "SecretKeyMissing", "find key HF_TOKEN", False,
         {"state": waiting("CreateContainerConfigError", "couldn't find key HF_TOKEN in Secret")}),
    Sign("W4", "bad-files", "IntegrityError", "as told", True,
         {"init": {"state": ended(65, report="IntegrityError"), "ready": False}}),
    Sign("D5", "fetch-fails", "HubUnavailable", "as told", False,
         {"init": {"state": ended(75, report="HubUnavailable"), "ready": False}}),
    Sign("C4", "disk-full", "InsufficientStorage", "as told", False,
         {"init": {"state": ended(75, report="InsufficientStorage"), "ready": False}}),
    Sign("W1", "init-oom", "OOMKilled", "killed for its memory limit", True,
         {"init": {"state": ended(137, "OOMKilled"), "ready": False}}),
    Sign("W10", "node-lost", "NodeLost", "does not answer", False, {"alive": True}),
    Sign("W5", "no-room", "Unschedulable", "Insufficient cpu", False, model="good-2",
         spec={"instanceClassName": HUGE_CLASS, "rollout": {"strategy": "Surge"}}),
    Sign("W5", "no-swap", "SwapNeedsPersistentCache", "Insufficient cpu", False, model="good-2",
         spec={"instanceClassName": HUGE_CLASS}),
    Sign("R14", "no-answer", "VerificationUnreachable", "", False, model="unreachable"),
    Sign("C1", "no-class", "StorageClassMissing", "no-such-class", False, model="good-2",
         spec={"cache": {"strategy": "Persistent", "storageClassName": "no-such-class"}}),
    inspected("D3", "no-revision", "RevisionNotFound", "as told", bad=True),
    inspected("D9", "unsafe", "UnsafeModelContent", "as told", bad=True),
    inspected("W4", "no-template", "ChatTemplateMissing", "as told", bad=True),
    inspected("W4", "misread", "ConfigError", "as told", bad=True),
    inspected("D1", "unauthorized", "HubUnauthorizedOrNotFound", "as told", bad=False),
    inspected("D2", "gated", "ModelGated", "as told", bad=False),
    inspected("W1", "huge", "InsufficientMemory", "the pods of its class have 1.07 GB", bad=True),
    inspected("W4", "no-engine", "EngineUnsupported", "onnx", bad=True),
)  # fmt: skip


@pytest.fixture(scope="module")
def signs(operator: Any) -> Iterator[Any]:
    """A namespace in which every candidate is on its way."""
    with operator() as run:
        kube: Kube = run.kube
        kube.apply(instance_class(HUGE_CLASS, cpu="10000"))
        kube.apply(*(good(sign.name) for sign in SIGNS))
        for sign in SIGNS:
            kube.wait_for_reason(sign.name, "Serving", 240)
        for sign in SIGNS:
            kube.patch(sign.name, {"model": {"id": f"demo/{sign.model}"}, **sign.spec})
        yield run
        assert find_misplaced(run.writes(), kube.namespace) == []
        assert find_complaints(run.log()) == []


@pytest.mark.parametrize(
    "sign", [pytest.param(s, id=s.name, marks=pytest.mark.fault(s.row)) for s in SIGNS]
)
def test_a_sign_is_told_and_decided_on(signs: Any, sign: Sign) -> None:
    kube: Kube = signs.kube
    if sign.shown is not None:
        pod = candidate_pod(kube, sign.name)
        show(kube, pod, **sign.shown)
    ready = kube.wait_for_reason(sign.name, "RolledBack" if sign.bad else sign.reason)
    assert sign.reason in ready["message"] or not sign.bad
    assert sign.words in ready["message"]
    status = kube.get("chatmodel", sign.name)["status"]
    assert status["serving"]["number"] == 1
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    assert conditions["Available"] == "True"
    revision = kube.get("chatmodelrevision", status["target"]["revision"])["status"]
    assert revision["verdict"] == ("Failed" if sign.bad else "Pending")
    if sign.bad:
        assert revision["reason"] == status["lastFailure"]["reason"] == sign.reason
    elif sign.shown is not None:
        heal(kube, sign.name, pod)


def heal(kube: Kube, name: str, pod: str) -> None:
    """What is nobody's fault passes: the candidate serves as soon as its pod is Ready."""
    make_ready(kube, pod)
    kube.wait_for_reason(name, "Serving")
    assert kube.get("chatmodel", name)["status"]["serving"]["number"] == 2


def make_ready(kube: Kube, pod: str) -> None:
    start = kube.get("pod", pod)["status"]["startTime"]
    init = {"state": ended(0, "Completed", at=start), "ready": True}
    show(kube, pod, ready=True, state={"running": {"startedAt": start}}, init=init)


def baking(kube: Kube, name: str) -> tuple[str, str]:
    """Have a candidate bake; return its pod and when it began to serve.

    A fake pod can be Ready in the second in which it was made, as no model can; this one is not.
    """
    model = {"id": "demo/never-ready"}
    kube.patch(name, {"model": model, "rollout": {"bakeSeconds": 600}})
    kube.wait_for_reason(name, "Starting")
    pod = candidate_pod(kube, name)
    made = kube.get("pod", pod)["metadata"]["creationTimestamp"]
    wait_for(lambda: ended(70)["terminated"]["finishedAt"] > made, "the next second")
    make_ready(kube, pod)
    kube.wait_for_reason(name, "Baking")
    served = kube.get("chatmodel", name)["status"]["serving"]["revision"]
    return pod, str(kube.get("chatmodelrevision", served)["status"]["servingAt"])


@pytest.mark.fault("R2", "W7")
@pytest.mark.parametrize(
    ("name", "shown", "reason"),
    [
        pytest.param(
            "restarts",
            {"ready": True, "restartCount": 1, "state": {"running": {"startedAt": None}}},
            "CrashLooping",
            id="a restart",
        ),
        pytest.param("unready", {}, "ReadinessLost", id="lost readiness"),
    ],
)
def test_a_revision_that_fails_in_its_bake_is_switched_back(
    signs: Any, name: str, shown: Body, reason: str
) -> None:
    kube: Kube = signs.kube
    kube.apply(good(name))
    kube.wait_for_reason(name, "Serving", 120)
    pod, since = baking(kube, name)
    if shown:
        # The kubelet's clock has whole seconds: the end must lie after the switch.
        wait_for(lambda: ended(70)["terminated"]["finishedAt"] > since, "the next second")
        end = ended(70)
        running = {"running": {"startedAt": end["terminated"]["finishedAt"]}}
        shown = shown | {"state": running, "lastState": end}
    show(kube, pod, **shown)
    ready = kube.wait_for_reason(name, "RolledBack", 30)
    assert reason in ready["message"]
    assert kube.get("chatmodel", name)["status"]["serving"]["number"] == 1


@pytest.mark.fault("W7", "W10")
@pytest.mark.parametrize("alive", [False, True], ids=["it is not ready", "its node is lost"])
def test_a_verified_revision_is_not_given_up(signs: Any, alive: bool) -> None:
    kube: Kube = signs.kube
    name = f"kept-{alive}".lower()
    kube.apply(good(name))
    kube.wait_for_reason(name, "Serving", 120)
    pod = candidate_pod(kube, name)
    show(kube, pod, alive=alive)
    kube.wait_for_reason(name, "NodeLost" if alive else "Starting", 30)
    show(kube, pod, ready=True)
    kube.wait_for_reason(name, "Serving", 30)
    status = kube.get("chatmodel", name)["status"]
    assert status["serving"]["number"] == 1
    assert "lastFailure" not in status


@pytest.mark.fault("W10")
def test_an_evicted_pod_is_no_sign_against_its_model(signs: Any) -> None:
    kube: Kube = signs.kube
    kube.apply(good("evicted"))
    kube.wait_for_reason("evicted", "Serving", 120)
    pod = candidate_pod(kube, "evicted")
    kube.run("delete", "pod", pod, "--wait=false")
    wait_for(lambda: candidate_pod(kube, "evicted") != pod, "another pod")
    kube.wait_for_reason("evicted", "Serving")
    assert "lastFailure" not in kube.get("chatmodel", "evicted")["status"]
