"""A right answer of a pod: kept for the next pass over that attempt, written with what follows."""

import asyncio
import dataclasses
import random
from typing import Any

import pytest
from aiohttp import web
from pictures import NOW, SETTINGS, at, chatmodel, make_revision, picture, ready_pods

from chatmodel_operator import names, observed, questions, rollout
from chatmodel_operator.scene import Record

STARTED = {"verdict": "Pending", "startedAt": at(-60), "progressAt": at(-60)}


class Clock:
    """What a right answer needs of the API server: nothing is written."""

    def now(self) -> Any:
        return NOW


def seen(revision: observed.Revision) -> observed.Observed:
    return picture(chatmodel(), revision, pods=ready_pods(revision, 1))


async def ask(revision: observed.Revision) -> tuple[questions.Questions, list[float]]:
    """Ask a pod that says what it should; return the questions, and for how long it was asked."""
    address = f"127.{random.randint(64, 127)}.{random.randint(1, 254)}.{random.randint(1, 254)}"
    model, come = chatmodel(), asyncio.Event()

    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(0.05)
        said = {"chatModel": model.name, "revision": revision.name, "ok": True, "tokens": 3}
        return web.json_response(said | {"mode": "mock", "engine": revision.spec.engine})

    app = web.Application()
    app.router.add_post("/verify", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, address, names.MANAGEMENT_PORT).start()
    try:
        asked = questions.Questions(Clock(), lambda *_: come.set())  # type: ignore[arg-type]
        pod = dataclasses.replace(seen(revision).pods[0], ip=address)
        question = rollout.Question("verify", revision, pod)
        ages = [asked.ask(model, question)]
        await asyncio.sleep(0.02)
        ages.append(asked.ask(model, question))
        await asyncio.wait_for(come.wait(), 10)
    finally:
        await runner.cleanup()
    return asked, ages


async def test_an_answer_waits_for_the_pass_that_writes_it() -> None:
    revision = make_revision(status=STARTED)
    asked, ages = await ask(revision)
    assert ages[0] == 0.0 < ages[1]
    for _ in range(2):  # a pass that could not write it begins anew
        found = asked.find_answer(seen(revision))
        assert found is not None
        assert found.revision.name == revision.name
        assert found.status["answeredAt"] == found.status["progressAt"] == at(0)
    written = make_revision(status=STARTED | {"answeredAt": at(0)})
    assert asked.find_answer(seen(written)) is None
    assert asked.find_answer(seen(revision)) is None


@pytest.mark.parametrize(
    "status",
    [
        pytest.param(STARTED | {"startedAt": at(-5)}, id="that was begun anew meanwhile"),
        pytest.param(STARTED | {"retiredAt": at(-5)}, id="that is over"),
    ],
)
async def test_an_answer_is_of_no_use_to_an_attempt(status: Any) -> None:
    asked, _ = await ask(make_revision(status=STARTED))
    assert asked.find_answer(seen(make_revision(status=status))) is None


def test_the_answer_and_the_intent_to_move_traffic_are_one_record() -> None:
    revision = make_revision(status=STARTED)
    answer = Record(revision, {"answeredAt": at(0), "progressAt": at(0)})
    record = rollout.plan_answered(seen(revision), answer, SETTINGS, NOW).record
    assert record is not None
    first = {"verdict", "verifiedAt", "seconds"}  # nothing to go back to: nothing to bake for
    assert record.status.keys() == {"answeredAt", "progressAt", "servingAt"} | first


def test_the_first_record_says_when_the_attempt_began() -> None:
    blank = make_revision(status={"verdict": "Pending"})
    assert blank.is_blank and blank.is_open
    assert blank.status.started_at == blank.status.progress_at == at(-60)
    answer = Record(blank, {"answeredAt": at(0), "progressAt": at(0)})
    waits = picture(chatmodel(replicas=2), blank, pods=ready_pods(blank, 1))
    record = rollout.plan_answered(waits, answer, SETTINGS, NOW).record
    assert record is not None
    assert record.status == answer.status | {"verdict": "Pending", "startedAt": at(-60)}


def test_an_answer_without_a_consequence_is_recorded_alone() -> None:
    revision = make_revision(status=STARTED)
    answer = Record(revision, {"answeredAt": at(0), "progressAt": at(0)})
    waits = picture(chatmodel(replicas=2), revision, pods=ready_pods(revision, 1))
    record = rollout.plan_answered(waits, answer, SETTINGS, NOW).record
    assert record is not None
    assert record.status == answer.status
