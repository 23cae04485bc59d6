"""What an operator sees of `tiny_world` in one pass, and what it writes, in its order.

It speaks the methods of `cluster.Cluster` and `questions.Questions`. A pass runs on a fork of the
world; its writes are carried out on the world itself afterwards, all of them or, when the operator
dies, the first few.
"""

import dataclasses
import json
from typing import Any

from tiny_table import TABLE, Raw, merged
from tiny_world import CHATMODEL, Key, World

from chatmodel_operator import (
    comparing,
    errors,
    names,
    observed,
    reading,
    reconcile,
    rollout,
    scene,
)
from chatmodel_operator.api.chatmodelrevision import NOT_RECORDED
from chatmodel_operator.api.instanceclass import InstanceClassSpec
from chatmodel_operator.cache import Stored
from chatmodel_operator.observed import format_time
from chatmodel_operator.settings import Allowed, Embedded, Settings

_SIZE = {"resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}}
CLASS = Stored(
    {
        "metadata": {"name": "small", "annotations": {"carepath.ai/is-default-class": "true"}},
        "spec": InstanceClassSpec.model_validate(_SIZE).dump(),
    }
)
SLOW_SECONDS = 5.0
INSIDE = {"modelID": "demo/inside", "commit": "e" * 40, "weightBytes": 8, "image": "inside:1"}
TOO_LARGE = INSIDE | {"modelID": "demo/inside-huge", "weightBytes": 10**12}
SETTINGS = Settings(
    embedded=tuple(map(Embedded.model_validate, (INSIDE, TOO_LARGE))),
    allowed=Allowed(models=("demo/*",)),
)


@dataclasses.dataclass(frozen=True)
class Write:
    """One write of the operator; a body of None is a deletion. `line` is what the film says."""

    line: str
    key: Key
    body: Raw | None

    def carry_out(self, world: World) -> None:
        """Do to a world what the API server does."""
        world.put(self.key, self.body)
        world.writes += 1
        if self.line:
            world.say(self.line)


@dataclasses.dataclass
class Pass:
    """What one pass of the operator over one state of the world comes to."""

    writes: list[Write] = dataclasses.field(default_factory=list)
    asked: frozenset[str] = frozenset()
    forgets: bool = False  # whether the answer that has come is written, or of no use
    pause: float | None = None
    error: errors.ClusterError | None = None


def look(world: World) -> Pass:
    """Let an operator without any memory make one pass over a world that stays as it is."""
    api = TinyCluster(world.fork())
    reconciler = reconcile.Reconciler(api, api, SETTINGS)  # type: ignore[arg-type]
    story = reconciler.reconcile("ns", "triage")
    try:
        story.send(None)  # nothing here waits, so no event loop is needed
    except StopIteration as end:
        api.found.pause = end.value
    except errors.ClusterError as error:
        api.found.error, api.found.pause = error, 5.0
    return api.found


def observe(world: World) -> observed.Observed:
    """Return the operator's picture of a world."""
    live = {k: v for k, v in world.objects.items() if k != CHATMODEL}
    classes = [] if "no-class" in world.hazards else [CLASS]
    chatmodel = reading.read_chatmodel(world.objects[CHATMODEL])
    pods = [world.pods[name] for name in sorted(world.pods)]
    return reading.read_picture(chatmodel, live, pods, classes)


class TinyCluster:
    """The API server and the pods' management ports, for one pass."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.found = Pass()

    def now(self) -> Any:
        return self._world.now()

    async def observe(self, namespace: str, name: str) -> observed.Observed:
        return observe(self._world)

    async def create(self, manifest: Raw) -> bool:
        key = (manifest["kind"], manifest["metadata"]["name"])
        if key in self._world.objects:
            return False
        self._write(f"create {key[0]} {key[1]}", key, self._applied(key, manifest))
        return True

    async def apply(self, manifest: Raw, live: Raw | None, *, guarded: bool = False) -> bool:
        body = {k: v for k, v in manifest.items() if k not in ("apiVersion", "kind")}
        if live is not None and comparing.is_part_of(body, live):
            return False
        key = (manifest["kind"], manifest["metadata"]["name"])
        there = self._world.objects.get(key)
        if guarded and live is not None and there is not live:
            raise errors.Conflict("apply", "Conflict", "it has moved")
        self._write(_describe(manifest), key, self._applied(key, manifest))
        return True

    async def record(self, namespace: str, revision: Any, part: str, body: Raw) -> None:
        key = ("ChatModelRevision", revision.name)
        there = self._world.objects[key]
        if there["metadata"]["resourceVersion"] != revision.resource_version:
            raise errors.Conflict("record", "Conflict", "it has moved")
        shown = body if part == "status" else sorted(body)
        line = f"record {revision.name} {part} {json.dumps(shown, sort_keys=True)}"
        self._write(line, key, merged(there, part, body))

    async def delete(
        self, kind: str, namespace: str, name: str, uid: str, *, grace: int | None = None
    ) -> None:
        self._write(f"delete {kind} {name}", (kind, name), None)

    async def patch_status(self, chatmodel: Any, status: Raw) -> bool:
        there = self._world.objects[CHATMODEL]
        if there["status"] == status:
            return False
        before, after = _ready(there["status"]), _ready(status)
        line = f"status Ready={after['status']} {after['reason']}: {after['message']}"
        self._write(line if before != after else "", CHATMODEL, there | {"status": status})
        return True

    async def post_event(self, event: Raw) -> None:
        """Events repeat what the status says."""

    def ask(self, chatmodel: Any, question: rollout.Question) -> float:
        """Take a question; the world answers it in its own time, at once as far as anyone knows."""
        if question.kind == "verify":
            self.found.asked |= {question.revision.name}
        return SLOW_SECONDS if "slow-answers" in self._world.hazards else 0.0

    def find_answer(self, seen: observed.Observed) -> scene.Record | None:
        if self._world.answer is None:
            return None
        name, started_at, stamp = self._world.answer
        self.found.forgets = True
        revision = seen.find(name)
        if revision is None or revision.status.started_at != started_at:
            return None
        if revision.is_answered or not revision.is_open:
            return None
        return scene.Record(revision, {"answeredAt": stamp, "progressAt": stamp})

    def _write(self, line: str, key: Key, body: Raw | None) -> None:
        write = Write(line, key, None if body is None else TABLE.keep(key[0], body))
        write.carry_out(self._world)
        self.found.writes.append(write)

    def _applied(self, key: Key, manifest: Raw) -> Raw:
        """Return the body that the API server stores for a manifest."""
        manifest = comparing.without_nulls(manifest)
        there = self._world.objects.get(key) or {"metadata": {}, "status": {}}
        body = {k: v for k, v in manifest.items() if k not in ("apiVersion", "kind", "metadata")}
        new = {"uid": f"u-{key[0]}-{key[1]}", "creationTimestamp": format_time(self._world.now())}
        meta = new | there["metadata"] | manifest["metadata"]
        if key[0] == "PersistentVolumeClaim":
            storage = manifest["spec"]["resources"]["requests"]["storage"]
            body["status"] = {"phase": "Bound", "capacity": {"storage": storage}}
        if key[0] == "ChatModelRevision":
            body["status"] = NOT_RECORDED
        return there | body | {"metadata": meta}


def _describe(manifest: Raw) -> str:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    if kind == "Service":
        return f"traffic -> {manifest['spec']['selector'][names.LABEL_REVISION]}"
    if kind == "Deployment":
        return f"apply Deployment {name} replicas={manifest['spec']['replicas']}"
    return f"apply {kind} {name}"


def _ready(status: Raw) -> Raw:
    return next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
