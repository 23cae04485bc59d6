"""The stories that the films tell: who edits what, and when, on which node.

Told by `telling`; every rollout rule has one (docs/rollout.md). A story is a list of times and
acts; ROOM is how many serving pods the only node takes.
"""

import longer_stories
from acts import GOOD, PERSISTENT, Story, after_good, edit, model, retry, rollout

ROOM = {
    "a-serving-pod-without-a-node-comes-before-the-candidate": 1,
    "no-room-swaps-and-measures-the-outage": 1,
    "no-room-and-a-bad-candidate-restores-the-old": 1,
    "no-room-and-weights-that-would-be-lost-waits": 1,
    "no-room-and-surge-waits": 1,
    "no-room-for-all-shifts-step-by-step": 2,
    "no-room-for-all-and-a-bad-candidate-shifts-back": 2,
    "no-room-for-a-larger-one-is-undone": 1,
    "more-replicas-than-room-hold-the-candidate-back": 2,
    "a-rollback-without-room-takes-the-bad-ones-place": 1,
} | longer_stories.ROOM
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
    "a-candidate-that-is-stopped-has-all-of-its-time-again": [
        (0, edit(**GOOD)),
        (60, rollout(progressDeadlineSeconds=60)),
        (61, model("never-ready")),
        (70, edit(replicas=0)),
        (150, edit(replicas=1)),
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
    "a-model-no-engine-loads-is-refused-before-a-pod": after_good("onnx"),
    "an-embedded-model-no-engine-loads-is-refused-before-a-pod": [
        (0, edit(**GOOD)),
        (60, edit(model={"id": "demo/inside"}, cache={"strategy": "Embedded"}, engine="OpenVINO")),
    ],
    "an-embedded-model-too-large-for-its-class-is-refused-before-a-pod": [
        (0, edit(**GOOD)),
        (60, edit(model={"id": "demo/inside-huge"}, cache={"strategy": "Embedded"})),
    ],
    "an-engine-without-an-image-is-refused-before-a-pod": [
        (0, edit(**GOOD)),
        (60, edit(engine="VLLM")),
    ],
    "a-gguf-file-replaces-safetensors": after_good("gguf"),
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
    "a-lost-revision-on-a-claim-is-gone-back-to-without-an-outage": [
        (0, edit(**PERSISTENT)),
        (60, model("never-ready")),
        (65, lambda world: world.lose_serving_revision()),
        (70, model("dies-in-bake")),
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
    "a-serving-pod-without-a-node-comes-before-the-candidate": [
        (0, edit(**GOOD)),
        (60, lambda world: world.resize(0)),
        (70, model("better")),
        (150, lambda world: world.resize(2)),
    ],
    "two-replicas-have-a-disruption-budget": [
        (0, edit(**GOOD, replicas=2)),
        (60, edit(replicas=1)),
    ],
}
STORIES |= longer_stories.STORIES
