"""Films of whole rollouts: the real reconciler in a tiny world, every write a line.

GOLDEN_UPDATE=1 writes the films anew. The invariants hold after every step, in every film, also
with the steps in seeded random order and the operator killed at random writes (SCHEDULES, SEED).
"""

import asyncio
import json
import os
import pathlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from tiny_world import Killed, World

from chatmodel_operator import names, reconcile, settings

FILMS = pathlib.Path(__file__).parent / "rollouts"
SCHEDULES = int(os.environ.get("SCHEDULES", "136"))
GOOD = {"mode": "huggingface", "model": {"id": "demo/good"}, "rollout": {"bakeSeconds": 10}}
Story = list[tuple[float, Callable[[World], None]]]


def edit(**spec: Any) -> Callable[[World], None]:
    return lambda world: world.edit(**spec)


def model(name: str) -> Callable[[World], None]:
    return edit(mode="huggingface", model={"id": f"demo/{name}"})


def after_good(name: str) -> Story:
    return [(0, edit(**GOOD)), (60, model(name))]


STORIES: dict[str, Story] = {
    "a-mock-goes-live": [(0, edit(mode="mock"))],
    "a-good-model-replaces-a-mock": [
        (0, edit(mode="mock", rollout={"bakeSeconds": 10})),
        (60, model("good")),
    ],
    "a-model-that-does-not-load-is-refused": after_good("load-fail"),
    "a-model-that-crashes-is-refused": after_good("crash"),
    "a-model-too-big-is-refused": after_good("oom"),
    "a-model-that-does-not-exist-is-refused": after_good("not-found"),
    "a-model-that-answers-wrongly-is-refused": after_good("bad-verify"),
    "a-model-that-dies-under-traffic-is-rolled-back": after_good("dies-in-bake"),
    "a-model-that-is-never-ready-is-given-up": [
        (0, edit(**GOOD)),
        (60, edit(rollout={"bakeSeconds": 10, "progressDeadlineSeconds": 60})),
        (61, model("never-ready")),
    ],
    "a-hub-that-is-down-is-waited-for": after_good("hub-down"),
    "an-edit-during-a-rollout-abandons-the-candidate": [
        (0, edit(**GOOD)),
        (60, model("never-ready")),
        (70, model("better")),
    ],
    "an-edit-back-during-the-bake-returns-at-once": [
        (0, edit(**GOOD)),
        (60, model("better")),
        (68, model("good")),
    ],
    "a-failed-model-is-tried-again-when-asked": [
        *after_good("load-fail"),
        (90, lambda world: world.annotate(names.ANNOTATION_RETRY, "1")),
    ],
    "replicas-stop-and-start": [
        (0, edit(**GOOD)),
        (60, edit(replicas=0)),
        (90, edit(replicas=2)),
    ],
    "two-replicas-are-all-there-before-the-switch": [
        (0, edit(**GOOD, replicas=2)),
        (60, model("better")),
    ],
    "a-first-model-that-is-bad-has-nothing-to-go-back-to": [
        (0, edit(**GOOD | {"model": {"id": "demo/load-fail"}})),
        (30, model("good")),
    ],
    "three-bad-ones-in-a-row": [
        *after_good("load-fail"),
        (90, model("oom")),
        (120, model("not-found")),
    ],
}
END = 240


class Player:
    """One telling of a story."""

    def __init__(self, story: Story, chance: random.Random | None = None) -> None:
        self.world = World()
        self.story = list(story)
        self.chance = chance
        self.kills = 0
        self.good: str | None = None

    async def play(self) -> World:
        """Tell the story to its end."""
        while self.world.seconds < END:
            while self.story and self.story[0][0] <= self.world.seconds:
                self.story.pop(0)[1](self.world)
            await self._settle()
            self.world.seconds += 1
        return self.world

    async def _settle(self) -> None:
        """Let operator and controllers work until nothing moves, in order or at random."""
        idle = 0
        while idle < 3:
            acts = [self._pass, self._controllers]
            if self.chance is not None:
                self.chance.shuffle(acts)
                acts = acts[: self.chance.randint(1, 2)]
            moved = False
            for act in acts:
                moved |= await act()
                self._check()
            idle = 0 if moved else idle + 1

    async def _controllers(self) -> bool:
        return self.world.step()

    async def _pass(self) -> bool:
        world = self.world
        before = world.writes
        if self.chance is not None and self.chance.random() < 0.05:
            world.kill_at = (world.writes + 1, self.chance.choice(("before", "after")))
        loop = reconcile.Reconciler(world, world, settings.Settings())  # type: ignore[arg-type]
        try:
            pause = await loop.reconcile("ns", "triage")
        except Killed:
            self.kills += 1
            world.kill_at = (0, "")
            return True
        return world.writes != before or pause == 0.0

    def _check(self) -> None:
        """What must be true after every step."""
        world = self.world
        revisions = {n: b for (k, n), b in world.objects.items() if k == "ChatModelRevision"}
        service = world.objects.get(("Service", "triage"))
        selected = service["spec"]["selector"][names.LABEL_REVISION] if service else "none"
        if selected != "none":
            status = revisions[selected]["status"]
            tried = status.get("answeredAt") or status.get("verdict") == "Failed"
            assert tried or world.objects["ChatModel", "triage"]["spec"].get("replicas") == 0, (
                f"traffic goes to {selected}, which never answered"
            )
        verified = [n for n, b in revisions.items() if b["status"].get("verdict") == "Verified"]
        if verified and selected in revisions:
            verdict = revisions[selected]["status"].get("verdict")
            replicas = world.objects["ChatModel", "triage"]["spec"].get("replicas", 1)
            if verdict == "Pending" and replicas:
                warm = [n for n in verified if self._has_pods(n)]
                assert warm, f"{selected} bakes and no good revision is warm"

    def _has_pods(self, name: str) -> bool:
        body = self.world.objects.get(("Deployment", name))
        return body is not None and body["spec"]["replicas"] > 0


def end_of(world: World) -> dict[str, Any]:
    """Return what must not depend on the order of events."""
    status = world.objects["ChatModel", "triage"]["status"]
    return {
        "conditions": [(c["type"], c["status"], c["reason"]) for c in status["conditions"]],
        "serving": status.get("serving"),
        "target": status["target"],
        "selector": world.objects["Service", "triage"]["spec"]["selector"],
        "verdicts": {
            name: body["status"].get("verdict")
            for (kind, name), body in world.objects.items()
            if kind == "ChatModelRevision"
        },
        "replicas": {
            name: body["spec"]["replicas"]
            for (kind, name), body in world.objects.items()
            if kind == "Deployment"
        },
    }


@pytest.mark.parametrize("name", STORIES)
def test_the_film_is_as_it_was(name: str) -> None:
    world = asyncio.run(Player(STORIES[name]).play())
    film = "\n".join(world.log) + "\n"
    path = FILMS / f"{name}.txt"
    if os.environ.get("GOLDEN_UPDATE"):
        path.write_text(film)
    assert film == path.read_text(), f"the film differs: GOLDEN_UPDATE=1 writes {path.name} anew"


@pytest.mark.parametrize("name", STORIES)
def test_order_and_crashes_do_not_change_the_end(name: str) -> None:
    expected = end_of(asyncio.run(Player(STORIES[name]).play()))
    first = int(os.environ.get("SEED", "0"))
    count = 1 if "SEED" in os.environ else max(1, SCHEDULES // len(STORIES))
    kills = 0
    for seed in range(first, first + count):
        player = Player(STORIES[name], random.Random(seed))
        try:
            found = end_of(asyncio.run(player.play()))
        except AssertionError as error:
            raise AssertionError(f"SEED={seed}: {error}") from error
        kills += player.kills
        assert json.dumps(found, sort_keys=True) == json.dumps(expected, sort_keys=True), (
            f"SEED={seed} ended otherwise"
        )
    assert kills or count == 1, "nobody was killed: the schedules prove nothing"


def test_nothing_is_written_once_all_is_told() -> None:
    player = Player(STORIES["a-model-that-dies-under-traffic-is-rolled-back"])
    world = asyncio.run(player.play())
    before = world.writes
    for _ in range(10):
        world.seconds += 60
        asyncio.run(player._settle())
    assert world.writes == before


def test_the_invariants_can_fail() -> None:
    player = Player(STORIES["a-mock-goes-live"])
    world = asyncio.run(player.play())
    revision = next(b for (k, _), b in world.objects.items() if k == "ChatModelRevision")
    del revision["status"]["answeredAt"]
    with pytest.raises(AssertionError, match="never answered"):
        player._check()
