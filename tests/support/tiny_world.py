"""A cluster that fits on a page, for films of rollouts: `tiny_cluster` shows it to an operator.

It plays user, Deployment controller, Job controller, scheduler and kubelet, one move at a time.
Time moves only when told. Model ids steer pods (see `tiny_pods`). `room` is how many serving pods
the only node takes; `hazards` are what the surroundings do: no-class, quota, nominated, hub-down,
slow-hub, slow-answers, and `spoilt <word>` for models whose new pods do not load any more.

Bodies are kept in `tiny_table`, equal ones once: a state of the world is known again by which
bodies it has.
"""

import datetime
import itertools
import json
from typing import Any, cast

import tiny_pods
from tiny_table import TABLE, Raw, merged

from chatmodel_operator import names, observed
from chatmodel_operator.api.chatmodelstatus import NOT_SEEN
from chatmodel_operator.observed import format_time

Key = tuple[str, str]
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CHATMODEL = ("ChatModel", "triage")
SERVICE = ("Service", "triage")
BREAKS_DOWN_AFTER = datetime.timedelta(seconds=6)  # of its bake


class World:
    """One namespace with one ChatModel."""

    def __init__(self, room: int | None = None) -> None:
        self.room = room
        self.seconds = 0.0
        self.objects: dict[Key, Raw] = {}
        self.pods: dict[str, Raw] = {}
        self.asked: frozenset[str] = frozenset()
        # What the operator remembers until it is written: revision, its attempt, time.
        self.answer: tuple[str, str | None, str] | None = None
        self.hazards: frozenset[str] = frozenset()
        self.log: list[str] = []
        self.writes = 0

    def fork(self) -> "World":
        """Return a world that goes on from here by itself, without the film so far."""
        world = World(self.room)
        world.seconds, world.asked, world.hazards = self.seconds, self.asked, self.hazards
        world.objects, world.pods = dict(self.objects), dict(self.pods)
        world.answer = self.answer
        return world

    def key(self) -> tuple[Any, ...]:
        """Return what tells this state from every other, as far as an operator can see it."""
        # What is stored is not forgotten before `telling.clear`, so that its id is its own.
        bodies = frozenset(map(id, self.objects.values()))
        pods = frozenset(map(id, self.pods.values()))
        return self.seconds, self.hazards, bodies, pods, self.answer

    def now(self) -> datetime.datetime:
        """Return the time of the API server."""
        return START + datetime.timedelta(seconds=self.seconds)

    def say(self, text: str) -> None:
        """Add a line to the film."""
        self.log.append(f"{self.seconds:5.0f} s  {text}")

    # --- what a user and the surroundings do ---------------------------------------------------

    def edit(self, **spec: Any) -> None:
        """Create the ChatModel, or change its spec."""
        there = self.objects.get(CHATMODEL)
        if there is None:
            meta = {"name": "triage", "namespace": "ns", "uid": "u-triage", "generation": 0}
            there = {"metadata": meta, "spec": {}, "status": NOT_SEEN}
        meta = there["metadata"] | {"generation": there["metadata"]["generation"] + 1}
        self.put(CHATMODEL, there | {"metadata": meta, "spec": there["spec"] | spec})
        self.say(f"user: {json.dumps(spec, sort_keys=True)}")

    def annotate(self, key: str, value: str) -> None:
        """Annotate the ChatModel."""
        there = self.objects[CHATMODEL]
        annotations = (there["metadata"].get("annotations") or {}) | {key: value}
        self.put(CHATMODEL, there | {"metadata": there["metadata"] | {"annotations": annotations}})
        self.say(f"user: {key}={value}")

    def delete(self) -> None:
        """Delete the ChatModel: it stays for a while, its children go."""
        there = self.objects[CHATMODEL]
        gone = {"deletionTimestamp": format_time(self.now())}
        self.put(CHATMODEL, there | {"metadata": there["metadata"] | gone})
        self.say("user: delete")

    def lose(self, kind: str, name: str) -> None:
        """Lose an object."""
        self.objects.pop((kind, name), None)
        self.say(f"lost: {kind} {name}")

    def lose_status(self) -> None:
        """Lose the ChatModel's status."""
        self.put(CHATMODEL, self.objects[CHATMODEL] | {"status": NOT_SEEN})
        self.say("lost: status")

    def lose_serving_revision(self) -> None:
        """Lose the revision that has the traffic."""
        self.lose("ChatModelRevision", str(self.selected()))

    def lose_target(self) -> None:
        """Lose the revision that the status names as target."""
        self.lose("ChatModelRevision", self.objects[CHATMODEL]["status"]["target"]["revision"])

    def resize(self, room: int) -> None:
        """Have a node with room for so many serving pods in place of the old one, whose pods go."""
        self.room = room
        serving = [n for n, p in self.pods.items() if tiny_pods.task_of(p).command == "serve"]
        for name in serving:
            del self.pods[name]
        self.say(f"another node: room for {room}")

    def befall(self, *hazards: str) -> None:
        """Let the surroundings be so and not otherwise."""
        self.hazards = frozenset(hazards)
        self.say(f"surroundings: {', '.join(sorted(hazards)) or 'well'}")

    # --- what is there ---------------------------------------------------------------------------

    def selected(self) -> str | None:
        """Return the revision that has the traffic."""
        service = self.objects.get(SERVICE)
        name = service["spec"]["selector"][names.LABEL_REVISION] if service else None
        return None if name == names.NO_REVISION else name

    def revisions(self) -> dict[str, Raw]:
        """Return the revisions by their names."""
        return {n: body for (k, n), body in self.objects.items() if k == "ChatModelRevision"}

    def status_of(self, revision: str | None) -> Raw:
        """Return the status of a revision; empty when it is not there."""
        body = self.objects.get(("ChatModelRevision", str(revision)))
        return cast(Raw, body["status"]) if body is not None else {}

    def replicas_of(self, revision: str | None) -> int:
        """Return the replicas of a revision's Deployment."""
        body = self.objects.get(("Deployment", str(revision)))
        return int(body["spec"]["replicas"]) if body is not None else 0

    def ready_pods(self, revision: str | None) -> int:
        """Return how many pods of a revision are Ready."""
        return sum(tiny_pods.is_ready(p) for p in self._pods_of(str(revision)))

    def _pods_of(self, owner: str) -> list[Raw]:
        return [p for p in self.pods.values() if p["metadata"]["labels"]["of"] == owner]

    def next_death(self) -> float | None:
        """Return when a pod of a model that dies in its bake does so; None when none will."""
        body = self.objects.get(("ChatModelRevision", str(self.selected())))
        if body is None or "dies-in-bake" not in str(body["spec"]["source"].get("modelID")):
            return None
        since = observed.parse_time(body["status"].get("servingAt"))
        if since is None or not any(map(tiny_pods.is_running, self._pods_of(str(self.selected())))):
            return None
        return max((since + BREAKS_DOWN_AFTER - START).total_seconds(), self.seconds + 1)

    # --- storing ---------------------------------------------------------------------------------

    def put(self, key: Key, body: Raw | None) -> Raw | None:
        """Store a body; None removes it."""
        if body is None:
            return self.objects.pop(key, None)
        kept = self.objects[key] = TABLE.keep(key[0], body)
        return kept

    def _put_pod(self, name: str, pod: Raw, status: Raw) -> bool:
        self.pods[name] = TABLE.keep("Pod", pod | {"status": status})
        return True

    # --- the controllers ------------------------------------------------------------------------

    def step(self) -> bool:
        """Let every controller do one thing; return whether one did."""
        return any([self.move(each) for each in self.moves()])

    def moves(self) -> list[Key]:
        """Return whose turn it could be, in a fixed order."""
        made = sorted(key for key in self.objects if key[0] in ("Deployment", "Job"))
        return [*made, *(("Pod", n) for n in sorted(self.pods)), *(("", n) for n in self.asked)]

    def move(self, key: Key) -> bool:
        """Let one of them do one thing; return whether it did."""
        kind, name = key
        if kind == "":
            return self._answer(name)
        if kind == "Pod":
            return name in self.pods and self._step_pod(name, self.pods[name])
        body = self.objects.get(key)
        if body is None:
            return False
        return self._step_deployment(name, body) if kind == "Deployment" else self._step_job(body)

    def _answer(self, revision: str) -> bool:
        """Answer a verification, as a Ready pod would; without one the question is lost."""
        if "slow-answers" in self.hazards:
            return False
        self.asked -= {revision}
        body = self.objects.get(("ChatModelRevision", revision))
        if body is None or not self.ready_pods(revision):
            return True
        if "bad-verify" in str(body["spec"]["source"].get("modelID")):
            count = (body["status"].get("verification") or {}).get("failures", 0) + 1
            wrong = {"failures": count, "reason": "VerificationFailed", "message": "it was empty"}
            body = merged(body, "status", {"verification": wrong})
            self.put(("ChatModelRevision", revision), body)
        else:
            began = body["status"].get("startedAt") or body["metadata"]["creationTimestamp"]
            self.answer = revision, began, format_time(self.now())
        return True

    def _step_deployment(self, name: str, body: Raw) -> bool:
        mine, wanted = self._pods_of(name), body["spec"]["replicas"]
        if len(mine) > wanted:
            # As the ReplicaSet controller: what is not Ready goes first.
            last = max(mine, key=lambda p: (not tiny_pods.is_ready(p), p["metadata"]["name"]))
            del self.pods[last["metadata"]["name"]]
            return True
        refused = "quota" in self.hazards and len(mine) < wanted and bool(self.pods)
        status = body["status"]
        if refused != bool(status):
            failure = tiny_pods.refusal(format_time(self.now())) if refused else {}
            self.put(("Deployment", name), body | {"status": failure})
            return True
        if refused or len(mine) == wanted:
            return False
        return self._make_pod(name, body["spec"]["template"])

    def _step_job(self, body: Raw) -> bool:
        name = body["metadata"]["name"]
        if body["status"]:
            return False
        # Those of an earlier one of this name are the garbage collector's.
        pods = [pod for pod in self._pods_of(name) if not tiny_pods.is_older(pod, body)]
        if not pods:
            return self._make_pod(name, body["spec"]["template"])
        code = tiny_pods.exit_code(pods[0])
        if code is None:
            return False
        kind = "Complete" if code == 0 else "Failed"
        done = {"type": kind, "status": "True", "lastTransitionTime": format_time(self.now())}
        self.put(("Job", name), body | {"status": {"conditions": [done]}})
        return True

    def _make_pod(self, owner: str, template: Raw) -> bool:
        name = next(n for i in itertools.count() if (n := f"{owner}-{i}") not in self.pods)
        meta = {"name": name, "labels": template["metadata"]["labels"] | {"of": owner}}
        meta["creationTimestamp"] = format_time(self.now())
        return self._put_pod(name, {"metadata": meta, "spec": template["spec"]}, {})

    def _step_pod(self, name: str, pod: Raw) -> bool:
        owner, status = pod["metadata"]["labels"]["of"], pod["status"]
        job = self.objects.get(("Job", owner))
        if ("Deployment", owner) not in self.objects and (
            job is None or tiny_pods.is_older(pod, job)
        ):
            del self.pods[name]  # the garbage collector
            return True
        task = tiny_pods.task_of(pod)
        if task.command == "serve" and self.room is not None and not pod.get("placed"):
            return self._place(name, pod, task)
        dies = self._dies(task, pod)
        waits = "slow-hub" in self.hazards and tiny_pods.downloads(pod)
        is_done = status and status != tiny_pods.downloading() and tiny_pods.is_placed(pod)
        if (is_done and not dies) or (waits and status == tiny_pods.downloading()):
            return False
        if waits and not is_done:
            return self._put_pod(name, pod, tiny_pods.downloading())
        found = tiny_pods.outcome(task, self.hazards, dies, format_time(self.now()))
        return self._put_pod(name, pod, found)

    def _place(self, name: str, pod: Raw, task: tiny_pods.Task) -> bool:
        """Put a pod on the node, or say that it finds no room; return whether that is news."""
        taken = sum(bool(p.get("placed")) for p in self.pods.values())
        if "giant" not in task.model and taken < (self.room or 0):
            return self._put_pod(name, pod | {"placed": True}, {})
        if pod["status"]:
            return False
        status = tiny_pods.unplaced(
            format_time(self.now()), is_nominated="nominated" in self.hazards
        )
        return self._put_pod(name, pod, status)

    def _dies(self, task: tiny_pods.Task, pod: Raw) -> bool:
        """Say whether a pod that serves breaks down now: at a moment where nobody else acts."""
        if "dies-in-bake" not in task.model or not tiny_pods.is_running(pod):
            return False
        since = observed.parse_time(self.status_of(task.revision).get("servingAt"))
        return since is not None and self.now() >= since + BREAKS_DOWN_AFTER
