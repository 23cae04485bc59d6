"""What users and surroundings do in a story: each act changes a tiny world in one way.

`stories` and `longer_stories` are written with them, `composing` draws some by lot.
"""

import functools
from collections.abc import Callable
from typing import Any

from tiny_world import World

from chatmodel_operator import names

Act = Callable[[World], None]
Story = list[tuple[float, Act]]
GOOD: dict[str, Any] = {
    "mode": "huggingface",
    "model": {"id": "demo/good"},
    "rollout": {"bakeSeconds": 10},
}
PERSISTENT = GOOD | {"cache": {"strategy": "Persistent"}}
EMBEDDED = {"model": {"id": "demo/inside"}, "cache": {"strategy": "Embedded"}}


def edit(**spec: Any) -> Act:
    """Return a change of spec."""
    return functools.partial(World.edit, **spec)


def model(name: str) -> Act:
    """Return the wish for another model."""
    return edit(mode="huggingface", model={"id": f"demo/{name}"})


def rollout(**fields: Any) -> Act:
    """Return a change of the rollout's rules."""
    return edit(rollout={"bakeSeconds": 10} | fields)


def befall(*hazards: str) -> Act:
    """Return a change of the surroundings."""
    return lambda world: world.befall(*hazards)


def retry(value: str) -> Act:
    """Return the wish to try a bad model again."""
    return lambda world: world.annotate(names.ANNOTATION_RETRY, value)


def after_good(name: str) -> Story:
    """Return the story of another model after a good one."""
    return [(0, edit(**GOOD)), (60, model(name))]
