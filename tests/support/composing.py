"""Stories drawn by lot: edits, losses and surroundings at random times, for `telling`'s schedules.

Times and words come from short lists, so that schedules meet in the same states.
"""

import random

import acts
from tiny_world import World

MODELS = ("good", "better", "best", "load-fail", "crash", "oom", "not-found", "bad-verify")
MODELS += ("never-ready", "dies-in-bake", "onnx", "huge", "giant", "hub-down")
GAPS = (1, 5, 8, 20, 60)


def compose(chance: random.Random) -> tuple[acts.Story, int | None]:
    """Return a story and the room of its node."""
    first = dict(chance.choice((acts.GOOD, acts.PERSISTENT)))
    room = chance.choice((None, None, 1, 2))
    # With less room than replicas it is chance which revision's pod finds some.
    replicas = [n for n in (1, 1, 2, 3) if n <= (room or 3)]
    first["replicas"] = chance.choice(replicas)
    story: acts.Story = [(0, acts.edit(**first))]
    at = 0.0
    for _ in range(chance.randint(1, 4)):
        # Each at a fraction of its own: what meets a deadline in one moment has no right order.
        at += chance.choice(GAPS) + 0.1
        story.append((round(at, 1), _act(chance, [0, *replicas])))
    return story, room


def _act(chance: random.Random, replicas: list[int]) -> acts.Act:
    kind = chance.random()
    if kind < 0.5:
        return acts.model(chance.choice(MODELS))
    if kind < 0.65:
        return acts.rollout(**chance.choice(ROLLOUTS))
    if kind < 0.75:
        return acts.edit(replicas=chance.choice(replicas))
    if kind < 0.82:
        return acts.retry(chance.choice("12"))
    return chance.choice(OTHERS)


def _pin_the_selected(world: World) -> None:
    name = world.selected() or "triage-00000000"
    world.edit(rollout={"bakeSeconds": 10, "pinnedRevision": name})


ROLLOUTS: tuple[dict[str, object], ...] = (
    {},
    {"paused": True},
    {"strategy": "Recreate"},
    {"strategy": "Surge"},
    {"failurePolicy": "Hold"},
    {"progressDeadlineSeconds": 60},
    {"restartToken": "monday"},
    {"historyLimit": 1},
)
OTHERS: tuple[acts.Act, ...] = (
    acts.edit(cache={"strategy": "Ephemeral"}),
    acts.edit(cache={"strategy": "Persistent"}),
    acts.edit(**acts.EMBEDDED),
    acts.edit(mode="mock"),
    acts.befall("quota"),
    acts.befall("spoilt good"),
    acts.befall("hub-down"),
    acts.befall(),
    World.lose_status,
    World.lose_serving_revision,
    _pin_the_selected,
)
