"""Every invariant finds the violation that is planted for it."""

from collections.abc import Callable
from typing import Any

import invariants
import pytest
import status_truths
import stories
import telling
from tiny_cluster import Write
from tiny_table import Raw, merged
from tiny_world import CHATMODEL, SERVICE, World

LATER = "2030-01-01T00:00:00Z"
REVISION, DEPLOYMENT = "ChatModelRevision", "Deployment"


def at(seconds: float, name: str) -> World:
    """Return the world of a story at a time."""
    return telling.Teller(stories.STORIES[name], stories.ROOM.get(name), end=seconds).tell()


GOES_BACK = "a-model-that-dies-under-traffic-is-rolled-back"
MOVES = "a-good-model-replaces-a-mock"
REFUSED = "a-model-that-does-not-load-is-refused"
Plant = Callable[[World], Write]


def by_number(world: World, number: int) -> str:
    return next(n for n, b in world.revisions().items() if b["spec"]["number"] == number)


def records(number: int, **status: Any) -> Plant:
    def plant(world: World) -> Write:
        key = (REVISION, by_number(world, number))
        return Write("planted", key, merged(world.objects[key], "status", status))

    return plant


def moves_traffic(number: int) -> Plant:
    def plant(world: World) -> Write:
        there = world.objects[SERVICE]
        selector = there["spec"]["selector"] | {"carepath.ai/revision": by_number(world, number)}
        return Write("planted", SERVICE, merged(there, "spec", {"selector": selector}))

    return plant


def scales(number: int, replicas: int) -> Plant:
    def plant(world: World) -> Write:
        key = (DEPLOYMENT, by_number(world, number))
        return Write("planted", key, merged(world.objects[key], "spec", {"replicas": replicas}))

    return plant


def renders_anew(number: int) -> Plant:
    def plant(world: World) -> Write:
        key = (DEPLOYMENT, by_number(world, number))
        template = {"template": {"spec": {"rendered": "today"}}}
        return Write("planted", key, merged(world.objects[key], "spec", template))

    return plant


def deletes(number: int) -> Plant:
    return lambda world: Write("planted", (REVISION, by_number(world, number)), None)


def edits_spec(world: World) -> Write:
    return Write("planted", CHATMODEL, merged(world.objects[CHATMODEL], "spec", {"replicas": 9}))


def says(kind: str, **fields: Any) -> Plant:
    """Return a status whose condition of a kind differs, or is added."""

    def plant(world: World) -> Write:
        there = world.objects[CHATMODEL]
        base: Raw = dict(there["status"]["conditions"][0])
        rest = [c for c in there["status"]["conditions"] if c["type"] != kind]
        mine = status_truths.condition(there["status"], kind) or base | {"type": kind}
        conditions = [*rest, {**mine, **fields}]
        return Write("planted", CHATMODEL, merged(there, "status", {"conditions": conditions}))

    return plant


PLANTED: dict[str, tuple[float, str, Plant]] = {
    "last_good_advances_after_answer_and_bake": (64, MOVES, records(2, verdict="Verified")),
    "traffic_moves_to_what_answered": (61, REFUSED, moves_traffic(2)),
    "traffic_goes_back_to_the_last_good": (75, GOES_BACK, moves_traffic(2)),
    "a_failed_revision_stays_failed": (90, REFUSED, records(2, verdict="Pending")),
    "a_failed_revision_gets_no_pods": (90, REFUSED, scales(2, 1)),
    "only_the_target_fails": (90, REFUSED, records(1, verdict="Failed")),
    "the_author_s_part_is_never_written": (90, REFUSED, edits_spec),
    "times_are_the_server_s": (90, REFUSED, records(1, verifiedAt=LATER)),
    "pods_stop_for_a_swap_while_intended": (90, REFUSED, scales(1, 0)),
    "the_last_good_is_warm_in_the_bake": (66, MOVES, scales(1, 0)),
    "a_pause_takes_no_step": (100, "no-deadline-runs-in-a-pause", scales(2, 3)),
    "what_is_needed_is_not_deleted": (90, REFUSED, deletes(1)),
    "a_deleting_chatmodel_is_left_alone": (
        90,
        "a-deletion-in-a-rollout-writes-nothing",
        scales(1, 1),
    ),
    "a_template_is_applied_as_stored": (90, REFUSED, renders_anew(1)),
    "ready_is_what_was_asked_for_and_serves": (90, REFUSED, says("Ready", status="True")),
    "never_current_before_traffic_is_served": (90, REFUSED, says("Ready", type="Other")),
    "generations_are_the_one_that_was_seen": (90, REFUSED, says("Ready", observedGeneration=7)),
    "transitions_move_with_status_alone": (90, REFUSED, says("Ready", lastTransitionTime=LATER)),
    "abnormal_ones_are_there_only_when_true": (90, REFUSED, says("Degraded", status="False")),
    "available_is_what_has_ready_pods": (90, REFUSED, says("Available", status="False")),
    "a_rollback_is_told": (90, REFUSED, says("Stalled", status="False")),
}


@pytest.mark.parametrize("rule", invariants.WRITES, ids=lambda rule: rule.__name__)
def test_a_planted_write_is_found(rule: Callable[[World, Write, World], str]) -> None:
    seconds, name, plant = PLANTED[rule.__name__]
    world = at(seconds, name)
    write = plant(world)
    after = world.fork()
    write.carry_out(after)
    assert rule(world, write, after)


def test_traffic_on_what_never_answered_is_found() -> None:
    world = at(240, "a-mock-goes-live")
    key = (REVISION, by_number(world, 1))
    world.put(key, merged(world.objects[key], "status", {"answeredAt": None}))
    with pytest.raises(AssertionError, match="never answered"):
        invariants.check_state(world)


def test_a_lost_stamp_is_found() -> None:
    world = at(240, "a-mock-goes-live")
    key = (DEPLOYMENT, by_number(world, 1))
    body = world.objects[key]
    world.put(key, body | {"metadata": body["metadata"] | {"labels": {}}})
    with pytest.raises(AssertionError, match="does not say that it is Verified"):
        invariants.check_rest(world)


def test_pods_that_nobody_needs_are_found() -> None:
    world = at(240, MOVES)
    key = (DEPLOYMENT, by_number(world, 1))
    world.put(key, merged(world.objects[key], "spec", {"replicas": 1}))
    with pytest.raises(AssertionError, match="still have pods"):
        invariants.check_rest(world)
