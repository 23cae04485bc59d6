"""The status as a whole, as the planner's own plans give it, and the events it is worth."""

import datetime
from typing import Any

import pytest
from pictures import (
    COMMIT,
    INSPECTION,
    NOW,
    SETTINGS,
    Body,
    at,
    chatmodel,
    failed,
    make_revision,
    picture,
    ready_pods,
    serving,
)

from chatmodel_operator import conditions, rollout, status
from chatmodel_operator.api.chatmodel import QWEN_MODEL_ID
from chatmodel_operator.api.chatmodelstatus import ChatModelStatus
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.observed import Observed

PREPARED = {"inspection": INSPECTION, "commit": COMMIT, "engine": "Transformers"}
GOOD = make_revision(1, status=serving())
BAD = make_revision(2, mode="qwen", filled=PREPARED, status=failed())


def plan_of(seen: Observed) -> rollout.Plan:
    plan = rollout.plan_rollout(seen, SETTINGS, NOW)
    assert plan.record is None, plan.record
    return plan


def status_of(seen: Observed) -> Body:
    return status.build_status(seen, plan_of(seen), NOW)


def ready_of(body: Body) -> tuple[str, str]:
    ready = body["conditions"][0]
    return ready["status"], ready["reason"]


def good_serves(**spec: Any) -> Observed:
    return picture(chatmodel(**spec), GOOD, selected=GOOD, pods=ready_pods(GOOD, 1))


def rolled_back(*others: Any) -> Observed:
    asked = chatmodel(mode="qwen")
    return picture(asked, GOOD, BAD, *others, selected=GOOD, pods=ready_pods(GOOD, 1))


def test_serving() -> None:
    body = status_of(good_serves(at_generation=7))
    assert ready_of(body) == ("True", "Serving")
    assert {key: value for key, value in body.items() if key != "conditions"} == {
        "observedGeneration": 7,
        "serving": {"revision": GOOD.name, "number": 1, "mode": "mock"},
        "target": {"revision": GOOD.name, "number": 1, "mode": "mock"},
        "replicas": 1,
        "readyReplicas": 1,
        "pods": "1/1",
        "selector": (
            f"carepath.ai/chatmodel=triage,carepath.ai/revision={GOOD.name},carepath.ai/role=serve"
        ),
        "endpoint": "http://triage.clinic.svc:8002",
        "apiKeySecretName": "triage-api-key",
        "lastRollout": {"to": GOOD.name, "result": "Succeeded"},
    }


def test_rolled_back_says_what_serves_what_failed_and_why() -> None:
    body = status_of(rolled_back())
    assert ready_of(body) == ("False", "RolledBack")
    assert {c["type"] for c in body["conditions"] if c["status"] == "True"} == {
        "Available",
        "Degraded",
        "Stalled",
    }
    assert body["serving"]["number"] == 1
    assert body["target"] == {
        "revision": BAD.name,
        "number": 2,
        "mode": "qwen",
        "modelID": QWEN_MODEL_ID,
        "commit": COMMIT,
    }
    assert body["lastFailure"] == {
        "revision": BAD.name,
        "reason": "CrashLooping",
        "message": "3 restarts",
        "time": at(-30),
    }
    assert "CrashLooping: 3 restarts" in body["conditions"][0]["message"]


def test_no_previous_revision() -> None:
    first = make_revision(1, status=failed("OOMKilled"))
    body = status_of(picture(chatmodel(), first))
    assert ready_of(body) == ("False", "NoPreviousRevision")
    assert body["conditions"][-1]["type"] == "Stalled"
    assert "serving" not in body
    assert body["pods"] == "0/1"
    assert body["lastFailure"]["reason"] == "OOMKilled"


def test_stopped() -> None:
    body = status_of(picture(chatmodel(replicas=0), GOOD, selected=GOOD))
    assert ready_of(body) == ("False", "Stopped")
    assert {c["type"] for c in body["conditions"]} == {"Ready", "Available", "Progressing"}
    assert (body["pods"], body["replicas"], body["readyReplicas"]) == ("0/0", 0, 0)


def test_a_spec_that_is_not_understood_still_has_a_whole_status() -> None:
    body = status_of(good_serves(mode="gpt"))
    assert ready_of(body) == ("False", "InvalidSpec")
    assert body["serving"]["number"] == 1
    assert "target" not in body
    assert "spec.mode" in body["conditions"][0]["message"]


def test_the_first_status_has_a_selector_that_selects_nothing() -> None:
    body = status_of(picture(chatmodel()))
    assert ready_of(body) == ("Unknown", "Pending")
    assert "carepath.ai/revision=none" in body["selector"]


def test_without_keys_there_is_no_secret_to_name() -> None:
    assert "apiKeySecretName" not in status_of(picture(chatmodel(auth={"mode": "None"})))


def test_a_download_is_told_with_its_numbers() -> None:
    loading = {"startedAt": at(-20), "progressAt": at(-5)}
    loading |= {"verdict": "Pending", "download": {"totalBytes": 8_000_000_000, "percent": 35}}
    new = make_revision(2, mode="qwen", filled=PREPARED, status=loading)
    asked = chatmodel(mode="qwen")
    body = status_of(picture(asked, GOOD, new, selected=GOOD, pods=ready_pods(GOOD, 1)))
    assert body["download"] == {"totalBytes": 8_000_000_000, "percent": 35}
    assert body["model"] == {
        "id": QWEN_MODEL_ID,
        "requestedRevision": "main",
        "commit": COMMIT,
        "totalBytes": INSPECTION["totalBytes"],
        "weightBytes": INSPECTION["weightBytes"],
        # The weights, 256 MiB for the process, and a context of 2048 + 512 + 1024 tokens.
        "requiredMemory": 3_000_000_000 + 256 * 1024**2 + 147_456 * 3584,
        "engine": "Transformers",
        "engineMessage": "Auto: the model has safetensors, its class has no accelerator",
    }


def test_the_last_failure_is_the_newest() -> None:
    older = make_revision(3, mode="mock", auth={"mode": "None"}, status=failed("X", when=-900))
    assert status_of(rolled_back(older))["lastFailure"]["revision"] == BAD.name


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(good_serves(), id="serving"),
        pytest.param(rolled_back(), id="rolled back"),
        pytest.param(picture(chatmodel()), id="new"),
        pytest.param(picture(chatmodel(replicas=0), GOOD, selected=GOOD), id="stopped"),
        pytest.param(good_serves(mode="gpt"), id="not understood"),
    ],
)
def test_a_status_fits_its_schema_whole(seen: Observed) -> None:
    body = status_of(seen)
    assert ChatModelStatus.model_validate(body).dump() == body


def event_of(before: Body | None, after: Body) -> Body | None:
    return status.build_event(chatmodel(status=before), after, NOW)


def test_the_first_status_is_worth_an_event() -> None:
    event = event_of(None, status_of(picture(chatmodel())))
    assert event is not None
    assert (event["type"], event["reason"]) == ("Normal", "Pending")


def test_another_reason_is_worth_an_event() -> None:
    event = event_of(status_of(good_serves()), status_of(rolled_back()))
    assert event is not None
    assert (event["type"], event["reason"]) == ("Warning", "RolledBack")
    assert event["regarding"]["kind"] == "ChatModel"
    assert event["metadata"]["namespace"] == event["regarding"]["namespace"] == "clinic"
    assert event["eventTime"] == "2026-03-01T12:00:00.000000Z"


def test_the_same_reason_with_other_numbers_is_worth_none() -> None:
    before, after = status_of(good_serves()), status_of(good_serves(replicas=3))
    assert before["conditions"][0]["message"] != after["conditions"][0]["message"]
    assert event_of(before, after) is None


def status_with(reason: Reason, message: str = "said") -> Body:
    seen = good_serves()
    plan = rollout.Plan(reason, message, plan_of(seen).cast)
    return {"conditions": conditions.build_conditions(seen, plan, NOW)}


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        pytest.param(Reason.Downloading, "Normal", id="a step on the way"),
        pytest.param(Reason.Serving, "Normal", id="serving"),
        pytest.param(Reason.Stopped, "Normal", id="a wish to stop"),
        pytest.param(Reason.RollingBack, "Warning", id="a way back"),
        pytest.param(Reason.NoPreviousRevision, "Warning", id="nowhere to go back to"),
        pytest.param(Reason.RollbackFailed, "Warning", id="a way back that failed"),
        pytest.param(Reason.Unschedulable, "Warning", id="the surroundings"),
        pytest.param(Reason.ModelGated, "Warning", id="what is cured outside"),
        pytest.param(Reason.PermissionDenied, "Warning", id="the operator's own trouble"),
    ],
)
def test_the_reason_decides_how_loud_an_event_is(reason: Reason, kind: str) -> None:
    event = event_of(None, status_with(reason))
    assert event is not None
    assert event["type"] == kind


def test_an_events_time_is_utc_whatever_the_clock() -> None:
    there = NOW.astimezone(datetime.timezone(datetime.timedelta(hours=2)))
    event = status.build_event(chatmodel(), status_with(Reason.Serving), there)
    assert event is not None
    assert event["eventTime"].startswith("2026-03-01T12:00:00")


def test_the_note_of_an_event_has_at_most_1024_bytes() -> None:
    event = event_of(None, status_with(Reason.Unschedulable, "x" * 9000))
    assert event is not None
    assert len(event["note"].encode()) <= 1024  # the server counts bytes, and refuses more


@pytest.mark.parametrize(
    ("said", "generation", "now", "is_brief"),
    [
        pytest.param(Reason.Starting, 1, Reason.Verifying, True, id="a pod is asked"),
        pytest.param(Reason.Starting, 1, Reason.Unschedulable, False, id="anything else"),
        pytest.param(Reason.Verifying, 1, Reason.Verifying, False, id="it was said already"),
        pytest.param(Reason.Serving, 2, Reason.Verifying, False, id="of an older generation"),
    ],
)
def test_only_that_a_pod_is_asked_can_wait_a_second(
    said: Reason, generation: int, now: Reason, is_brief: bool
) -> None:
    before = status_with(said) | {"observedGeneration": 1}
    model = chatmodel(at_generation=generation, status=before)
    assert status.is_brief(model, rollout.Plan(now, "")) is is_brief


def test_a_first_status_waits_for_nothing() -> None:
    assert not status.is_brief(chatmodel(), rollout.Plan(Reason.Verifying, ""))
