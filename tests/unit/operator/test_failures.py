"""The table of signs: what pods say, and whom it speaks against."""

import json

import pytest
from pictures import (
    INSPECTION,
    Body,
    at,
    make_revision,
    raw_container,
    raw_pod,
    terminated,
    waiting,
)
from signs import CANDIDATE, inspect, report, serve, sign_of, stage, unschedulable

from chatmodel_operator.api.reasons import Reason

GONE = 'rpc error: code = NotFound desc = failed to pull "mock:9": manifest unknown'
BACK_OFF_GONE = 'Back-off pulling image "mock:9": ErrImagePull: docker.io/mock:9: not found'
NO_ROUTE = "failed to do request: dial tcp 10.0.0.1:443: connect: connection refused"


CRASH = terminated(70, report("Crash", "ValueError"))
BACK_OFF = waiting("CrashLoopBackOff", "back-off 40s restarting failed container")


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        pytest.param(
            serve(waiting("ErrImagePull", GONE)),
            Reason.ImageNotFound,
            id="the registry has no such tag",
        ),
        pytest.param(
            serve(waiting("ImagePullBackOff", BACK_OFF_GONE)),
            Reason.ImageNotFound,
            id="the back-off says that the image was not found",
        ),
        pytest.param(
            serve(waiting("ErrImageNeverPull", "Container image is not present")),
            Reason.ImageNotFound,
            id="the image is not on the node and must not be pulled",
        ),
        pytest.param(
            serve(waiting("InvalidImageName", 'couldn\'t parse image name "A:B:C"')),
            Reason.InvalidImageName,
            id="the image name cannot be parsed",
        ),
        pytest.param(
            serve(waiting("CreateContainerConfigError", "container has runAsNonRoot and")),
            Reason.ConfigError,
            id="the container cannot be configured",
        ),
        pytest.param(
            serve(terminated(64, report("ConfigError"))),
            Reason.ConfigError,
            id="the runtime refuses its configuration",
        ),
        pytest.param(
            serve(BACK_OFF, 1, terminated(64, "")),
            Reason.ConfigError,
            id="the runtime ended with 64 and without a word",
        ),
        *(
            pytest.param(
                serve(BACK_OFF, 1, terminated(65, report(word))),
                Reason(word),
                id=f"one exit with 65 and {word} decides",
            )
            for word in ("EngineUnsupported", "ModelLoadFailed", "IntegrityError")
        ),
        *(
            pytest.param(
                inspect(terminated(65, report(word))),
                Reason(word),
                id=f"the inspection found {word}",
            )
            for word in (
                "ModelNotFound",
                "RevisionNotFound",
                "UnsafeModelContent",
                "ChatTemplateMissing",
            )
        ),
        pytest.param(
            stage(terminated(65, report("IntegrityError"))),
            Reason.IntegrityError,
            id="the init container ended with 65",
        ),
        pytest.param(
            serve(terminated(65, "not JSON")),
            Reason.ModelLoadFailed,
            id="an exit with 65 whose report is not JSON",
        ),
        pytest.param(
            serve(terminated(65, "[]")),
            Reason.ModelLoadFailed,
            id="an exit with 65 whose report is a list",
        ),
        pytest.param(
            serve(terminated(65, report("NoSuchWord"))),
            Reason.ModelLoadFailed,
            id="an exit with 65 whose reason is not ours",
        ),
        pytest.param(
            serve(terminated(65, report("HubUnavailable"))),
            Reason.ModelLoadFailed,
            id="an exit with 65 whose reason contradicts it",
        ),
        pytest.param(
            serve(BACK_OFF, 1, terminated(137, reason="OOMKilled")),
            Reason.OOMKilled,
            id="one death for memory decides",
        ),
        pytest.param(
            serve(BACK_OFF, 3, CRASH), Reason.CrashLooping, id="the third restart after a crash"
        ),
        pytest.param(
            serve(None, 3, CRASH), Reason.CrashLooping, id="the third restart, running again"
        ),
        pytest.param(
            serve(None, 4, terminated(139)), Reason.CrashLooping, id="restarts after a signal"
        ),
        pytest.param(
            inspect(terminated(0, "{}")),
            Reason.ConfigError,
            id="the report of an inspection cannot be read",
        ),
    ],
)
def test_a_sign_against_the_revision_is_bad(pod: Body, reason: Reason) -> None:
    sign = sign_of(pod)
    assert sign is not None
    assert (sign.reason, sign.is_bad, sign.is_cured_outside) == (reason, True, False)
    assert sign.message


@pytest.mark.parametrize(
    ("pod", "reason", "is_cured_outside"),
    [
        pytest.param(
            unschedulable("0/3 nodes are available: 3 Insufficient memory."),
            Reason.Unschedulable,
            False,
            id="no node has room",
        ),
        pytest.param(
            serve(waiting("ErrImagePull", NO_ROUTE)),
            Reason.RegistryUnavailable,
            False,
            id="the registry does not answer",
        ),
        pytest.param(
            serve(waiting("ImagePullBackOff", 'Back-off pulling image "mock:9"')),
            Reason.RegistryUnavailable,
            False,
            id="the back-off does not say why",
        ),
        pytest.param(
            serve(waiting("RegistryUnavailable", "registry is unavailable")),
            Reason.RegistryUnavailable,
            False,
            id="the kubelet says that the registry is unavailable",
        ),
        *(
            pytest.param(
                stage(waiting("CrashLoopBackOff"), terminated(75, report(word))),
                Reason(word),
                False,
                id=f"the init container could not go on for {word}",
            )
            for word in ("HubUnavailable", "InsufficientStorage")
        ),
        *(
            pytest.param(
                serve(BACK_OFF, 9, terminated(75, report(word))),
                Reason(word),
                False,
                id=f"many restarts for {word} are no crash loop",
            )
            for word in ("CacheMissing", "ApiKeyMissing")
        ),
        *(
            pytest.param(
                inspect(terminated(75, report(word))),
                Reason(word),
                True,
                id=f"the hub says {word}",
            )
            for word in ("HubUnauthorizedOrNotFound", "ModelGated")
        ),
        pytest.param(
            serve(terminated(75, "not JSON")),
            Reason.HubUnavailable,
            False,
            id="an exit with 75 without a report",
        ),
        pytest.param(
            serve(terminated(75, report("ModelLoadFailed"))),
            Reason.HubUnavailable,
            False,
            id="an exit with 75 whose reason contradicts it",
        ),
    ],
)
def test_a_sign_of_the_surroundings_is_not_bad(
    pod: Body, reason: Reason, is_cured_outside: bool
) -> None:
    sign = sign_of(pod)
    assert sign is not None
    assert (sign.reason, sign.is_bad) == (reason, False)
    assert sign.is_cured_outside is is_cured_outside


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(serve(), id="a container that runs"),
        pytest.param(serve(waiting("ContainerCreating")), id="a container that is being created"),
        pytest.param(serve(waiting("PodInitializing")), id="a container that waits for another"),
        pytest.param(serve(None, 2, CRASH), id="two restarts"),
        pytest.param(serve(BACK_OFF, 2, CRASH), id="the word CrashLoopBackOff alone"),
        pytest.param(stage(terminated(0, reason="Completed")), id="an init container that is done"),
        pytest.param(
            inspect(terminated(0, json.dumps(INSPECTION), reason="Completed")),
            id="an inspection that is done",
        ),
        pytest.param(
            raw_pod(CANDIDATE, ready=True, containers=[raw_container(restarts=5, last=CRASH)]),
            id="a pod that is Ready after many restarts",
        ),
    ],
)
def test_what_is_on_its_way_says_nothing(pod: Body) -> None:
    assert sign_of(pod) is None


GRAVE = [raw_container(state=waiting("InvalidImageName", "?"))]
DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
OTHER = make_revision(1, status={"startedAt": at(-900)})


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(
            raw_pod(CANDIDATE, containers=GRAVE, deletionTimestamp=at(-1)),
            id="a pod that is being deleted",
        ),
        pytest.param(
            raw_pod(CANDIDATE, containers=GRAVE, conditions=[DISRUPTED]),
            id="a pod that was disrupted",
        ),
        pytest.param(
            raw_pod(CANDIDATE, containers=GRAVE, created=-121), id="a pod of an earlier attempt"
        ),
        pytest.param(raw_pod(OTHER, containers=GRAVE), id="a pod of another revision"),
    ],
)
def test_a_pod_that_does_not_speak_for_the_attempt_says_nothing(pod: Body) -> None:
    assert sign_of(pod) is None


def test_a_pod_made_in_the_second_the_attempt_began_speaks() -> None:
    assert sign_of(raw_pod(CANDIDATE, containers=GRAVE, created=-120)) is not None


def test_a_disruption_that_did_not_come_silences_nothing() -> None:
    averted = DISRUPTED | {"status": "False"}
    assert sign_of(raw_pod(CANDIDATE, containers=GRAVE, conditions=[averted])) is not None


def test_a_bad_sign_goes_before_the_surroundings() -> None:
    sign = sign_of(unschedulable("0/3 nodes"), serve(terminated(65, report("EngineUnsupported"))))
    assert sign is not None
    assert sign.reason is Reason.EngineUnsupported
