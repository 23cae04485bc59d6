"""What a scrape says, and how a line of the log names its ChatModel."""

import asyncio
import logging
import re
from typing import Any

import pytest
from jumping import Work, run
from prometheus_client import parser
from prometheus_client.samples import Sample

from chatmodel_operator import logs, metrics, metrics_page, workqueue
from chatmodel_operator.records import Outcome

KEY = ("clinic", "triage")
IDLE = metrics.Sources(
    chatmodels=list,
    queue_depth=lambda: 0,
    is_leading=lambda: False,
    reconnects=lambda: 0,
    slowed=lambda: 0,
)


def samples(of: metrics.Metrics) -> list[Sample]:
    families = parser.text_string_to_metric_families(of.render().decode())
    return [sample for family in families for sample in family.samples]


def value(of: metrics.Metrics, name: str, **labels: str) -> float | None:
    return next((s.value for s in samples(of) if s.name == name and s.labels == labels), None)


def chatmodel(**status: Any) -> dict[str, Any]:
    meta = {"namespace": "clinic", "name": "triage"}
    return {"metadata": meta, "spec": {"replicas": 3}, "status": status}


def about(found: metrics.Metrics) -> set[tuple[str, float]]:
    """Return the series about ChatModels, without namespace and name."""
    return {
        (" ".join([s.name, *_others(s)]), s.value)
        for s in samples(found)
        if s.labels.get("name") == "triage"
    }


def _others(sample: Sample) -> list[str]:
    return [sample.labels[key] for key in sorted(set(sample.labels) - {"namespace", "name"})]


def test_a_chatmodel_is_told_of_as_its_status_is_and_vanishes_with_it() -> None:
    there = [
        chatmodel(
            conditions=[{"type": "Ready", "status": "True"}],
            replicas=2,
            readyReplicas=1,
            serving={"mode": "qwen", "revision": "triage-1", "modelID": "Qwen/secret-name"},
        )
    ]
    found = metrics.Metrics(metrics.Sources(lambda: list(there), *(
        (lambda: 7), (lambda: True), (lambda: 2), (lambda: 1)
    )))  # fmt: skip
    assert about(found) == {
        ("chatmodel_status_condition true Ready", 1.0),
        ("chatmodel_status_condition false Ready", 0.0),
        ("chatmodel_status_condition unknown Ready", 0.0),
        ("chatmodel_replicas wanted", 3.0),
        ("chatmodel_replicas current", 2.0),
        ("chatmodel_replicas ready", 1.0),
        ("chatmodel_info qwen triage-1", 1.0),
    }
    assert value(found, "chatmodel_operator_queue_depth") == 7
    assert value(found, "chatmodel_operator_leader") == 1
    assert value(found, "chatmodel_operator_watch_reconnects_total") == 2
    assert value(found, "chatmodel_operator_watch_slowed_total") == 1
    assert "secret-name" not in found.render().decode()
    there.clear()
    assert about(found) == set()


def test_a_chatmodel_without_a_status_has_series() -> None:
    body = {"metadata": {"namespace": "clinic", "name": "triage"}, "spec": {"mode": "mock"}}
    found = metrics.Metrics(metrics.Sources(lambda: [body], *(
        (lambda: 0), (lambda: True), (lambda: 0), (lambda: 0)
    )))  # fmt: skip
    assert ("chatmodel_replicas wanted", 1.0) in about(found)


@pytest.mark.parametrize(
    ("request_", "labels"),
    [
        pytest.param(
            ("GET", "/api/v1/namespaces/clinic/pods", 200),
            {"verb": "list", "kind": "Pod", "code": "200"},
            id="a list",
        ),
        pytest.param(
            ("GET", "/apis/carepath.ai/v1alpha1/namespaces/clinic/chatmodels/triage", 404),
            {"verb": "get", "kind": "ChatModel", "code": "404"},
            id="one object",
        ),
        pytest.param(
            ("PATCH", "/apis/apps/v1/namespaces/clinic/deployments/triage-1", None),
            {"verb": "patch", "kind": "Deployment", "code": "none"},
            id="no answer",
        ),
        pytest.param(
            ("GET", "/apis/carepath.ai/v1alpha1", 200),
            {"verb": "list", "kind": "other", "code": "200"},
            id="what is no kind of ours",
        ),
    ],
)
def test_requests_are_counted_without_names(
    request_: tuple[str, str, int | None], labels: dict[str, str]
) -> None:
    found = metrics.Metrics(IDLE)
    found.count_request(*request_)
    assert value(found, "chatmodel_operator_api_requests_total", **labels) == 1


def test_every_result_is_there_from_the_start() -> None:
    found = metrics.Metrics(IDLE)
    found.count_rollout(Outcome("rolled_back", 12.0))
    assert value(found, "chatmodel_rollouts_total", result="rolled_back") == 1
    assert value(found, "chatmodel_rollouts_total", result="completed") == 0
    assert value(found, "chatmodel_operator_reconcile_total", result="error") == 0


def test_the_page_has_every_series_about_the_operator() -> None:
    page = metrics_page.build_page()
    found = {s.name for s in samples(metrics.Metrics(IDLE)) if s.name.startswith("chatmodel_")}
    names = {re.sub(r"_(bucket|count|sum)$", "", name) for name in found}
    assert names
    assert all(f"`{name}`" in page for name in names)


def test_a_line_of_a_pass_names_its_chatmodel_and_others_none() -> None:
    made = [logging.makeLogRecord({"msg": word}) for word in ("within", "begun within", "outside")]
    within, begun_within, outside = made

    async def story() -> None:
        async def work(namespace: str, name: str) -> None:
            logs.add_subject(within)
            await asyncio.create_task(later())

        async def later() -> None:
            logs.add_subject(begun_within)

        queue = workqueue.WorkQueue(work)
        queue.add(KEY)
        queue.start()
        await asyncio.sleep(1)
        await queue.stop()
        logs.add_subject(outside)

    run(story())
    ref = {"kind": "ChatModel", "namespace": "clinic", "name": "triage"}
    assert [getattr(record, "k8s_ref", None) for record in made] == [ref, ref, None]


def test_a_queue_with_nothing_to_do_is_well_for_ever() -> None:
    async def story() -> None:
        queue = workqueue.WorkQueue(Work())
        queue.start()
        await asyncio.sleep(100_000)
        assert queue.find_fault() is None
        await queue.stop()

    run(story())


def test_a_queue_that_was_never_started_is_well_although_keys_wait() -> None:
    async def story() -> None:
        queue = workqueue.WorkQueue(Work())
        queue.add(KEY)
        await asyncio.sleep(100_000)
        assert (queue.find_fault(), queue.depth, queue.is_running) == (None, 1, False)
        queue.start()
        assert queue.find_fault() is None
        await queue.stop()

    run(story())


def test_a_pass_that_never_ends_is_a_fault() -> None:
    async def story() -> None:
        work = Work()
        work.gate.clear()
        queue = workqueue.WorkQueue(work)
        queue.start()
        queue.add(KEY)
        await asyncio.sleep(workqueue.STUCK_SECONDS - 1)
        assert queue.find_fault() is None
        await asyncio.sleep(2)
        assert queue.find_fault() == "a pass has been running for 301 s"
        await queue.stop()

    run(story())


def test_passes_that_fail_again_and_again_are_no_fault() -> None:
    async def story() -> None:
        async def work(namespace: str, name: str) -> float:
            await asyncio.sleep(15)
            raise TimeoutError

        queue = workqueue.WorkQueue(work, workers=1)
        for number in range(100):
            queue.add(("clinic", f"model-{number}"))
        queue.start()
        for _ in range(20):
            await asyncio.sleep(60)
            assert queue.find_fault() is None
        await queue.stop()

    logging.disable(logging.ERROR)
    try:
        run(story())
    finally:
        logging.disable(logging.NOTSET)


def test_a_queue_can_be_stopped_and_started_again() -> None:
    async def story() -> None:
        work = Work()
        queue = workqueue.WorkQueue(work)
        for _ in range(2):
            work.gate.clear()
            queue.start()
            queue.add(KEY)
            await work.until(lambda: KEY in work.busy)
            await queue.stop()
            work.busy.clear()
        work.gate.set()
        queue.start()
        queue.add(KEY)
        await asyncio.sleep(1)
        await queue.stop()
        assert [key for key, _ in work.begun] == [KEY] * 3
        assert work.doubled == []

    run(story())
