"""/livez, /readyz and /metrics of a running operator, also when the API server is away."""

import json

import pytest
from kube import chatmodel, wait_for
from operators import Fleet, Running

AWAY = pytest.mark.parametrize(
    "rule",
    [
        pytest.param({"action": "reset"}, id="nobody answers"),
        pytest.param({"action": "status", "status": 503}, id="it answers 503"),
    ],
)


@AWAY
def test_an_api_server_that_goes_away_costs_readiness_and_not_life(
    fleet: Fleet, rule: dict[str, object]
) -> None:
    running = fleet.start("a")
    wait_for(running.leads, "the operator to lead")
    running.play(rule)
    wait_for(lambda: _readiness_while_alive(running) == 503, "readiness to fall", 30)
    running.play()
    wait_for(lambda: _readiness_while_alive(running) == 200, "readiness to return", 60)


def _readiness_while_alive(running: Running) -> int:
    assert running.get("/livez")[0] == 200
    return running.get("/readyz")[0]


@AWAY
def test_an_operator_that_starts_without_an_api_server_lives_and_waits(
    fleet: Fleet, rule: dict[str, object]
) -> None:
    running = fleet.start("a", rule)
    wait_for(lambda: running.get("/livez")[0] == 200, "the operator to live")
    assert running.get("/readyz")[0] == 503
    assert running.sample("chatmodel_operator_leader") == 0
    running.play()
    wait_for(lambda: _readiness_while_alive(running) == 200, "the operator to lead", 60)


def test_a_verdict_is_counted_once_and_a_deleted_chatmodel_has_no_series(
    fleet: Fleet, nowhere: str
) -> None:
    kube, running = fleet.kube, fleet.start("a")
    wait_for(running.leads, "the operator to lead")
    kube.apply(chatmodel("triage", mode="mock", instanceClassName=nowhere))
    wait_for(lambda: bool(kube.get("pods")["items"]), "a pod")
    (pod,) = kube.get("pods")["items"]
    waiting = {"waiting": {"reason": "InvalidImageName", "message": "no such name"}}
    container = {"name": "serve", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    status = {"phase": "Pending", "containerStatuses": [container | {"state": waiting}]}
    kube.run(
        "patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=merge",
        "-p", json.dumps({"status": status}),
    )  # fmt: skip
    kube.wait_for_reason("triage", "NoPreviousRevision")
    assert running.sample("chatmodel_rollouts_total", result="failed") == 1
    assert running.sample("chatmodel_rollouts_total", result="completed") == 0
    assert running.sample("chatmodel_rollout_duration_seconds_count", result="failed") == 1
    kube.run("annotate", "chatmodel", "triage", "test=another-pass")
    passes = running.sample("chatmodel_operator_reconcile_total", result="success") or 0
    kube.patch("triage", {"replicas": 2})
    wait_for(
        lambda: (
            (running.sample("chatmodel_operator_reconcile_total", result="success") or 0) > passes
        ),
        "another pass",
    )
    assert running.sample("chatmodel_rollouts_total", result="failed") == 1
    assert running.sample(
        "chatmodel_status_condition", name="triage", type="Stalled", status="true"
    ) == 1  # fmt: skip
    assert running.sample("chatmodel_info", name="triage", mode="", revision="") == 1
    kube.run("delete", "chatmodel", "triage")
    wait_for(lambda: running.sample("chatmodel_info", name="triage") is None, "no series")
    assert 'name="triage"' not in running.get("/metrics")[1]


def test_log_lines_are_json_and_say_which_chatmodel_they_are_about(
    fleet: Fleet, nowhere: str
) -> None:
    rule = {"action": "status", "status": 500, "verb": "POST", "path": "/services", "times": 1}
    running = fleet.start("a", rule)
    wait_for(running.leads, "the operator to lead")
    fleet.kube.apply(chatmodel("triage", mode="mock", instanceClassName=nowhere))
    fleet.kube.wait_for_reason("triage", "Unschedulable")
    (line,) = [x for x in running.log() if x["severity"] in ("warn", "error")]
    about = {"kind": "ChatModel", "namespace": fleet.kube.namespace, "name": "triage"}
    assert line["object"] == about
    text = (running.folder / "operator.log").read_text()
    assert all(x.startswith("{") for x in text.splitlines())
