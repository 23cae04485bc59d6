"""Stories of the rules of docs/design.md 4.1 to 4.3 that need more than one turn of events.

Told as part of `stories`.
"""

from acts import GOOD, PERSISTENT, Story, after_good, befall, edit, model, retry, rollout
from tiny_world import World

ROOM = {
    "an-edit-during-a-swap-keeps-its-one-deadline": 1,
    "a-swap-that-ends-in-nothing-is-undone-at-its-deadline": 1,
    "a-nominated-pod-is-waited-for": 1,
    "hold-still-undoes-a-swap": 1,
    "rollouts-close-upon-each-other-keep-one-to-go-back-to": 3,
    "what-served-is-started-again-before-a-candidate": 1,
    "what-finds-no-room-itself-makes-way-when-told-to": 1,
    "a-swap-that-found-no-room-is-not-advised-again": 1,
}
STORIES: dict[str, Story] = {
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
    "what-served-is-started-again-before-a-candidate": [
        (0, edit(**GOOD)),
        (60, rollout(strategy="Surge")),
        (61, model("better")),
        (70, edit(replicas=0)),
        (90, edit(replicas=1)),
    ],
    "what-finds-no-room-itself-makes-way-when-told-to": [
        (0, edit(**GOOD)),
        (60, lambda world: world.resize(0)),
        (70, model("better")),
        (100, rollout(strategy="Recreate")),
        (110, lambda world: world.resize(1)),
    ],
    "a-swap-that-found-no-room-is-not-advised-again": [
        (0, edit(**PERSISTENT)),
        (60, model("giant")),
        (150, lambda world: world.resize(0)),
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
    "rollouts-close-upon-each-other-keep-one-to-go-back-to": [
        (0, edit(**GOOD)),
        (60, rollout(restartToken="one")),
        (76, rollout(restartToken="two")),
        (92, rollout(restartToken="three")),
        (108, rollout(restartToken="four")),
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
    "an-answer-that-takes-long-is-waited-for": [
        (0, edit(**GOOD)),
        (50, befall("slow-answers")),
        (60, model("better")),
        (70, befall()),
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
