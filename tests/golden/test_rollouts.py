"""Films of whole rollouts: the real reconciler in a tiny world, every write a line.

GOLDEN_UPDATE=1 writes the films anew. The invariants hold after every step, in every film, also
with the steps in seeded random order and the operator killed at random writes (SCHEDULES, SEED).
"""

import asyncio
import json
import math
import os
import pathlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from tiny_world import Killed, World

from chatmodel_operator import names, reconcile, settings

FILMS = pathlib.Path(__file__).parent / "rollouts"
SCHEDULES = int(os.environ.get("SCHEDULES", "880"))
GOOD = {"mode": "huggingface", "model": {"id": "demo/good"}, "rollout": {"bakeSeconds": 10}}
PERSISTENT = GOOD | {"cache": {"strategy": "Persistent"}}
EMBEDDED = settings.Embedded.model_validate(
    {"modelID": "demo/inside", "commit": "e" * 40, "weightBytes": 8, "image": "inside:1"}
)
SETTINGS = settings.Settings(embedded=(EMBEDDED,))
# Stories on a node that takes only so many serving pods.
ROOM = {
    "no-room-swaps-and-measures-the-outage": 1,
    "no-room-and-a-bad-candidate-restores-the-old": 1,
    "no-room-and-weights-that-would-be-lost-waits": 1,
    "no-room-and-surge-waits": 1,
    "no-room-for-all-shifts-step-by-step": 2,
    "no-room-for-all-and-a-bad-candidate-shifts-back": 2,
    "no-room-for-a-larger-one-is-undone": 1,
    "a-rollback-without-room-takes-the-bad-ones-place": 1,
}
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
STORIES |= {
    "a-persistent-model-is-staged-first": [(0, edit(**PERSISTENT)), (60, model("better"))],
    "a-persistent-bad-model-leaves-the-claim-alone": [
        (0, edit(**PERSISTENT)),
        (60, model("load-fail")),
    ],
    "a-claim-goes-when-the-last-good-needs-it-no-more": [
        (0, edit(**PERSISTENT)),
        (60, edit(cache={"strategy": "Ephemeral"})),
        (120, model("better")),
    ],
    "an-embedded-model-needs-no-hub": [
        (0, edit(**GOOD)),
        (60, edit(model={"id": "demo/inside"}, cache={"strategy": "Embedded"})),
    ],
    "an-embedded-model-nobody-built-in-is-waited-for": [
        (0, edit(**GOOD)),
        (60, edit(model={"id": "demo/outside"}, cache={"strategy": "Embedded"})),
    ],
    "a-model-no-engine-loads-is-refused-before-a-pod": after_good("gguf"),
    "a-model-too-large-for-its-class-is-refused-before-a-pod": after_good("huge"),
    "recreate-stops-the-old-one-first": [
        (0, edit(**GOOD)),
        (60, edit(rollout={"bakeSeconds": 10, "strategy": "Recreate"})),
        (61, model("better")),
    ],
    "recreate-with-a-bad-model-brings-the-old-one-back": [
        (0, edit(**GOOD)),
        (60, edit(rollout={"bakeSeconds": 10, "strategy": "Recreate"})),
        (61, model("load-fail")),
    ],
    "no-room-swaps-and-measures-the-outage": [(0, edit(**PERSISTENT)), (60, model("better"))],
    "no-room-and-a-bad-candidate-restores-the-old": [
        (0, edit(**PERSISTENT)),
        (60, model("load-fail")),
    ],
    "no-room-and-weights-that-would-be-lost-waits": after_good("better"),
    "no-room-and-surge-waits": [
        (0, edit(**PERSISTENT)),
        (60, edit(rollout={"bakeSeconds": 10, "strategy": "Surge"})),
        (61, model("better")),
    ],
    "no-room-for-all-shifts-step-by-step": [
        (0, edit(**PERSISTENT, replicas=2)),
        (60, model("better")),
    ],
    "no-room-for-all-and-a-bad-candidate-shifts-back": [
        (0, edit(**PERSISTENT, replicas=2)),
        (60, model("dies-in-bake")),
    ],
    "no-room-for-a-larger-one-is-undone": [
        (0, edit(**PERSISTENT)),
        (60, model("giant")),
    ],
    "a-rollback-without-room-takes-the-bad-ones-place": [
        (0, edit(**PERSISTENT)),
        (60, model("dies-in-bake")),
    ],
    "a-paused-rollout-takes-no-step": [
        (0, edit(**GOOD)),
        (60, edit(rollout={"bakeSeconds": 10, "paused": True})),
        (61, model("better")),
        (120, edit(rollout={"bakeSeconds": 10})),
    ],
    "a-pause-in-the-bake-does-not-end-it": [
        (0, edit(**GOOD)),
        (60, model("better")),
        (66, edit(rollout={"bakeSeconds": 10, "paused": True})),
        (120, edit(rollout={"bakeSeconds": 10})),
    ],
    "a-paused-rollout-still-goes-back": [
        (0, edit(**GOOD)),
        (60, model("dies-in-bake")),
        (63, edit(rollout={"bakeSeconds": 10, "paused": True})),
    ],
    "hold-keeps-a-bad-model-under-traffic": [
        (0, edit(**GOOD)),
        (60, edit(rollout={"bakeSeconds": 10, "failurePolicy": "Hold"})),
        (61, model("dies-in-bake")),
        (120, edit(rollout={"bakeSeconds": 10})),
    ],
    "hold-withdraws-what-never-had-traffic": [
        (0, edit(**GOOD)),
        (60, edit(rollout={"bakeSeconds": 10, "failurePolicy": "Hold"})),
        (61, model("load-fail")),
    ],
    "a-restart-token-starts-the-same-commit-anew": [
        (0, edit(**GOOD)),
        (60, edit(rollout={"bakeSeconds": 10, "restartToken": "monday"})),
    ],
    "a-pinned-revision-serves-whatever-spec-says": [
        (0, edit(mode="mock", rollout={"bakeSeconds": 10})),
        (60, model("good")),
        (120, edit(rollout={"bakeSeconds": 10, "pinnedRevision": "triage-2f92c3c7"})),
        (180, edit(rollout={"bakeSeconds": 10})),
    ],
    "a-pinned-revision-that-is-not-there-changes-nothing": [
        (0, edit(**GOOD)),
        (60, edit(rollout={"bakeSeconds": 10, "pinnedRevision": "triage-00000000"})),
    ],
    "a-lost-revision-is-rebuilt-from-its-deployment": [
        (0, edit(mode="mock", rollout={"bakeSeconds": 10})),
        (60, model("good")),
        (90, lambda world: world.lose("ChatModelRevision", "triage-2f92c3c7")),
        (120, lambda world: world.lose_serving_revision()),
    ],
    "two-replicas-have-a-disruption-budget": [
        (0, edit(**GOOD, replicas=2)),
        (60, edit(replicas=1)),
    ],
}
END = 240


class Player:
    """One telling of a story."""

    def __init__(self, name: str, chance: random.Random | None = None) -> None:
        self.world = World(ROOM.get(name))
        self.story = list(STORIES[name])
        self.pause: float | None = None
        self.chance = chance
        self.kills = 0
        self.good: str | None = None

    async def play(self) -> World:
        """Tell the story to its end."""
        while self.world.seconds < END:
            while self.story and self.story[0][0] <= self.world.seconds:
                self.story.pop(0)[1](self.world)
            await self._settle()
            self.world.seconds = self._next_moment()
        return self.world

    def _next_moment(self) -> float:
        """Return when something happens next: time that nobody waits for is left out."""
        moments = [at for at, _ in self.story[:1]] + [END]
        if self.pause is not None:
            moments.append(self.world.seconds + max(1, math.ceil(self.pause)))
        if (death := self.world.next_death()) is not None:
            moments.append(death)
        return max(min(moments), self.world.seconds + 1)

    async def _settle(self) -> None:
        """Let operator and controllers work until nothing moves, in order or at random."""
        moved = True
        while moved:
            acts = [self._pass, self._controllers]
            for _ in range(self.chance.randint(0, 4) if self.chance is not None else 0):
                await self.chance.choice(acts)()  # type: ignore[union-attr]
                self._check()
            # Nothing moves any more when each has had its turn in vain.
            moved = await self._passes()
            moved |= await self._controllers()
            self._check()

    async def _passes(self) -> bool:
        """Let the operator look as long as it wants to look again at once."""
        moved = False
        while await self._pass():
            moved = True
            self._check()
            if self.pause != 0.0:
                break
        return moved

    async def _controllers(self) -> bool:
        return self.world.step()

    async def _pass(self) -> bool:
        world = self.world
        before = world.writes
        if self.chance is not None and self.chance.random() < 0.05:
            world.kill_at = (world.writes + 1, self.chance.choice(("before", "after")))
        loop = reconcile.Reconciler(world, world, SETTINGS)  # type: ignore[arg-type]
        try:
            pause = self.pause = await loop.reconcile("ns", "triage")
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
            status = revisions.get(selected, {"status": {}})["status"]
            tried = status.get("answeredAt") or status.get("verdict") == "Failed"
            tried = tried or self._is_stamped(selected)
            assert tried or world.objects["ChatModel", "triage"]["spec"].get("replicas") == 0, (
                f"traffic goes to {selected}, which never answered"
            )
        verified = [n for n, b in revisions.items() if b["status"].get("verdict") == "Verified"]
        if verified and selected in revisions:
            verdict = revisions[selected]["status"].get("verdict")
            replicas = world.objects["ChatModel", "triage"]["spec"].get("replicas", 1)
            # Whoever made room for it is gone: that was the bargain.
            if verdict == "Pending" and replicas and not status.get("roomMadeAt"):
                warm = [n for n in verified if self._has_pods(n)]
                assert warm, f"{selected} bakes and no good revision is warm"

    def _is_stamped(self, name: str) -> bool:
        """Say whether a Deployment says of a lost revision that it was verified."""
        body = self.world.objects.get(("Deployment", name), {"metadata": {}})
        annotations = body["metadata"].get("annotations") or {}
        return annotations.get(names.ANNOTATION_VERDICT) == "Verified"

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
    world = asyncio.run(Player(name).play())
    film = "\n".join(world.log) + "\n"
    path = FILMS / f"{name}.txt"
    if os.environ.get("GOLDEN_UPDATE"):
        path.write_text(film)
    assert film == path.read_text(), f"the film differs: GOLDEN_UPDATE=1 writes {path.name} anew"


@pytest.mark.parametrize("name", STORIES)
def test_order_and_crashes_do_not_change_the_end(name: str) -> None:
    expected = end_of(asyncio.run(Player(name).play()))
    first = int(os.environ.get("SEED", "0"))
    count = 1 if "SEED" in os.environ else max(1, SCHEDULES // len(STORIES))
    kills = 0
    for seed in range(first, first + count):
        player = Player(name, random.Random(seed))
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
    player = Player("a-model-that-dies-under-traffic-is-rolled-back")
    world = asyncio.run(player.play())
    before = world.writes
    for _ in range(10):
        world.seconds += 60
        asyncio.run(player._settle())
    assert world.writes == before


def test_the_invariants_can_fail() -> None:
    player = Player("a-mock-goes-live")
    world = asyncio.run(player.play())
    revision = next(b for (k, _), b in world.objects.items() if k == "ChatModelRevision")
    del revision["status"]["answeredAt"]
    for (kind, _), body in world.objects.items():
        if kind == "Deployment":
            body["metadata"]["annotations"] = {}
    with pytest.raises(AssertionError, match="never answered"):
        player._check()
