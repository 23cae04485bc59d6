"""The stories that the films tell: who edits what, and when, on which node.

Told by `telling`; every rollout rule has one (docs/rollout.md). A story is a list of times and
acts; ROOM is how many serving pods the only node takes.
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


ROOM = {
    "no-room-swaps-and-measures-the-outage": 1,
    "no-room-and-a-bad-candidate-restores-the-old": 1,
    "no-room-and-weights-that-would-be-lost-waits": 1,
    "no-room-and-surge-waits": 1,
    "no-room-for-all-shifts-step-by-step": 2,
    "no-room-for-all-and-a-bad-candidate-shifts-back": 2,
    "no-room-for-a-larger-one-is-undone": 1,
    "more-replicas-than-room-hold-the-candidate-back": 2,
    "a-rollback-without-room-takes-the-bad-ones-place": 1,
}
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
        (60, rollout(progressDeadlineSeconds=60)),
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
        (90, retry("1")),
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
        (60, rollout(strategy="Recreate")),
        (61, model("better")),
    ],
    "recreate-with-a-bad-model-brings-the-old-one-back": [
        (0, edit(**GOOD)),
        (60, rollout(strategy="Recreate")),
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
        (60, rollout(strategy="Surge")),
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
        (60, rollout(paused=True)),
        (61, model("better")),
        (120, rollout()),
    ],
    "a-pause-in-the-bake-does-not-end-it": [
        (0, edit(**GOOD)),
        (60, model("better")),
        (66, rollout(paused=True)),
        (120, rollout()),
    ],
    "a-paused-rollout-still-goes-back": [
        (0, edit(**GOOD)),
        (60, model("dies-in-bake")),
        (63, rollout(paused=True)),
    ],
    "hold-keeps-a-bad-model-under-traffic": [
        (0, edit(**GOOD)),
        (60, rollout(failurePolicy="Hold")),
        (61, model("dies-in-bake")),
        (120, rollout()),
    ],
    "hold-withdraws-what-never-had-traffic": [
        (0, edit(**GOOD)),
        (60, rollout(failurePolicy="Hold")),
        (61, model("load-fail")),
    ],
    "a-restart-token-starts-the-same-commit-anew": [
        (0, edit(**GOOD)),
        (60, rollout(restartToken="monday")),
    ],
    "a-pinned-revision-serves-whatever-spec-says": [
        (0, edit(mode="mock", rollout={"bakeSeconds": 10})),
        (60, model("good")),
        (120, rollout(pinnedRevision="triage-2f92c3c7")),
        (180, rollout()),
    ],
    "a-pinned-revision-that-is-not-there-changes-nothing": [
        (0, edit(**GOOD)),
        (60, rollout(pinnedRevision="triage-00000000")),
    ],
    "a-lost-revision-is-rebuilt-from-its-deployment": [
        (0, edit(mode="mock", rollout={"bakeSeconds": 10})),
        (60, model("good")),
        (90, lambda world: world.lose("ChatModelRevision", "triage-2f92c3c7")),
        (120, lambda world: world.lose_serving_revision()),
    ],
    "a-failed-revision-that-is-lost-is-not-tried-again": [
        *after_good("load-fail"),
        (90, lambda world: world.lose_target()),
    ],
    "a-held-revision-that-is-lost-keeps-the-traffic": [
        (0, edit(**GOOD)),
        (60, rollout(failurePolicy="Hold")),
        (61, model("dies-in-bake")),
        (120, lambda world: world.lose_target()),
    ],
    "more-replicas-than-room-hold-the-candidate-back": [
        (0, edit(**GOOD, replicas=2)),
        (50, rollout(progressDeadlineSeconds=60)),
        (60, edit(replicas=3)),
        (70, model("better")),
        (200, edit(replicas=2)),
    ],
    "two-replicas-have-a-disruption-budget": [
        (0, edit(**GOOD, replicas=2)),
        (60, edit(replicas=1)),
    ],
}
# Rules of docs/design.md 4.1 to 4.3 that need more than one turn of events.
STORIES |= {
    "a-bad-model-and-a-spoilt-last-good-heal-later": [
        (0, edit(**GOOD)),
        (50, befall("spoilt good")),
        (60, edit(replicas=0)),
        (70, model("load-fail")),
        (71, edit(replicas=1)),
        (160, befall()),
        (161, model("better")),
    ],
    "an-edit-during-a-swap-keeps-its-one-deadline": [
        (0, edit(**PERSISTENT)),
        (60, model("never-ready")),
        (85, model("better")),
    ],
    "a-swap-that-ends-in-nothing-is-undone-at-its-deadline": [
        (0, edit(**PERSISTENT)),
        (60, rollout(progressDeadlineSeconds=60)),
        (61, model("never-ready")),
    ],
    "a-deletion-in-a-rollout-writes-nothing": [
        *after_good("never-ready"),
        (65, World.delete),
        (66, lambda world: world.lose("Service", "triage")),
    ],
    "a-scaled-candidate-catches-up-before-the-switch": [
        *after_good("never-ready"),
        (65, edit(replicas=3)),
        (70, model("better")),
    ],
    "nothing-runs-in-the-bake-and-it-begins-anew": [
        *after_good("better"),
        (66, edit(replicas=0)),
        (90, edit(replicas=1)),
    ],
    "a-failed-model-is-tried-again-with-another-token": [
        (0, edit(**PERSISTENT)),
        (60, model("load-fail")),
        (
            90,
            edit(
                model={"id": "demo/load-fail", "tokenSecretRef": {"name": "hub", "key": "HF_TOKEN"}}
            ),
        ),
    ],
    "history-has-a-limit": [
        (0, edit(mode="mock", rollout={"bakeSeconds": 10, "historyLimit": 1})),
        (40, model("good")),
        (80, model("better")),
        (120, model("best")),
        (160, model("load-fail")),
        (200, model("good")),
    ],
    "a-class-that-is-missing-is-waited-for": [
        (0, befall("no-class")),
        (0, edit(**GOOD)),
        (60, befall()),
        (60, rollout(historyLimit=4)),
    ],
    "a-quota-makes-room-by-a-swap": [
        (0, edit(**PERSISTENT)),
        (50, befall("quota")),
        (60, model("better")),
    ],
    "a-nominated-pod-is-waited-for": [
        (0, edit(**PERSISTENT)),
        (50, befall("nominated")),
        (60, model("better")),
    ],
    "hold-still-undoes-a-swap": [
        (0, edit(**PERSISTENT)),
        (60, rollout(failurePolicy="Hold")),
        (61, model("load-fail")),
    ],
    "no-deadline-runs-while-the-hub-is-down": [
        (0, edit(**GOOD)),
        (50, befall("hub-down")),
        (60, rollout(progressDeadlineSeconds=60)),
        (61, model("better")),
        (200, befall()),
    ],
    "no-deadline-runs-in-a-pause": [
        (0, edit(**GOOD)),
        (60, rollout(progressDeadlineSeconds=60)),
        (61, model("never-ready")),
        (70, rollout(progressDeadlineSeconds=60, paused=True)),
        (200, rollout(progressDeadlineSeconds=60)),
    ],
    "a-lost-claim-is-filled-again": [
        (0, edit(**PERSISTENT)),
        (60, lambda world: world.lose("PersistentVolumeClaim", "triage-models")),
        (61, model("better")),
    ],
    "a-lost-status-is-written-again": [*after_good("load-fail"), (90, World.lose_status)],
    "a-gated-model-is-asked-for-again": after_good("gated"),
    "a-held-model-is-tried-again-in-place": [
        (0, edit(**GOOD)),
        (60, rollout(failurePolicy="Hold")),
        (61, model("dies-in-bake")),
        (120, retry("1")),
    ],
    "a-download-is-watched": [
        (0, edit(**GOOD)),
        (50, befall("slow-hub")),
        (60, model("better")),
        (90, befall()),
    ],
    "a-spec-that-cannot-be-read-changes-nothing": [
        (0, edit(**GOOD)),
        (60, edit(mode="gpt")),
        (90, model("better")),
    ],
    "a-model-that-is-not-allowed-changes-nothing": [
        (0, edit(**GOOD)),
        (60, edit(model={"id": "other/model"})),
        (90, model("better")),
    ],
    "bad-again-and-again-goes-back-to-the-same-good-one": [
        (0, edit(**GOOD)),
        (60, model("dies-in-bake")),
        (100, retry("1")),
        (140, retry("2")),
    ],
}
ROOM |= {
    "an-edit-during-a-swap-keeps-its-one-deadline": 1,
    "a-swap-that-ends-in-nothing-is-undone-at-its-deadline": 1,
    "a-nominated-pod-is-waited-for": 1,
    "hold-still-undoes-a-swap": 1,
}
