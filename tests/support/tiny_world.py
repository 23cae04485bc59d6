"""A cluster that fits on a page, for films of whole rollouts: the real reconciler runs against it.

It speaks `chatmodel_operator.cluster.Cluster`'s methods, keeps raw objects, and plays Deployment
controller, Job controller and kubelet one step at a time. Time moves only when told. Model ids
steer pods: load-fail, crash, oom, not-found, bad-verify, never-ready, dies-in-bake, hub-down,
gguf, huge, giant. `room` is how many serving pods the only node takes.
"""

import datetime
import json
from typing import Any

from chatmodel_operator import comparing, errors, names, observed, reading, rollout
from chatmodel_operator.api.instanceclass import InstanceClassSpec
from chatmodel_operator.observed import format_time

Raw = dict[str, Any]
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CLASS = InstanceClassSpec.model_validate(
    {"resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}}
)
COMMIT = "c" * 40
ENDINGS = {
    "load-fail": (65, "Error", '{"reason": "ModelLoadFailed", "message": "no such tensor"}', 1),
    "crash": (70, "Error", '{"reason": "Crash", "message": "ValueError"}', 3),
    "oom": (137, "OOMKilled", "", 1),
}


class Killed(Exception):
    """The operator dies at this write."""


class World:
    """One namespace with one ChatModel."""

    def __init__(self, room: int | None = None) -> None:
        self.room = room
        self.seconds = 0.0
        self.objects: dict[tuple[str, str], Raw] = {}
        self.pods: dict[str, Raw] = {}
        self.log: list[str] = []
        self.version = 0
        self.writes = 0
        self.kill_at = (0, "")

    # --- what a user does -------------------------------------------------------------------

    def edit(self, **spec: Any) -> None:
        """Create the ChatModel, or change its spec."""
        there = self.objects.get(("ChatModel", "triage"))
        if there is None:
            meta = {"name": "triage", "namespace": "ns", "uid": "u-triage", "generation": 1}
            there = {"metadata": meta, "spec": {}, "status": {}}
            self.objects["ChatModel", "triage"] = there
        else:
            there["metadata"]["generation"] += 1
        there["spec"] |= spec
        self.say(f"user: {json.dumps(spec, sort_keys=True)}")

    def annotate(self, key: str, value: str) -> None:
        """Annotate the ChatModel."""
        meta = self.objects["ChatModel", "triage"]["metadata"]
        meta.setdefault("annotations", {})[key] = value
        self.say(f"user: {key}={value}")

    def lose(self, kind: str, name: str) -> None:
        """Lose an object."""
        self.objects.pop((kind, name), None)
        self.say(f"lost: {kind} {name}")

    def lose_serving_revision(self) -> None:
        """Lose the revision that has the traffic."""
        self.lose("ChatModelRevision", self.selected())

    def selected(self) -> str:
        """Return the revision that has the traffic."""
        selector = self.objects["Service", "triage"]["spec"]["selector"]
        return str(selector[names.LABEL_REVISION])

    def next_death(self) -> float | None:
        """Return when a pod of a model that dies in its bake does so; None when none will."""
        revision = self.objects.get(("ChatModelRevision", self._selected_or_none()))
        if revision is None or "dies-in-bake" not in json.dumps(revision["spec"]["source"]):
            return None
        since = observed.parse_time(revision["status"].get("servingAt"))
        alive = any('"running"' in json.dumps(p["status"]) for p in self.pods.values())
        if since is None or not alive:
            return None
        return max((since - START).total_seconds() + 6, self.seconds + 1)

    def _selected_or_none(self) -> str:
        return self.selected() if ("Service", "triage") in self.objects else "none"

    def say(self, text: str) -> None:
        """Add a line to the film."""
        self.log.append(f"{self.seconds:5.0f} s  {text}")

    # --- the Cluster interface ------------------------------------------------------------------

    def now(self) -> datetime.datetime:
        return START + datetime.timedelta(seconds=self.seconds)

    async def observe(self, namespace: str, name: str) -> observed.Observed:
        raw = json.loads(json.dumps(self.objects["ChatModel", name]))
        live = {
            k: json.loads(json.dumps(v)) for k, v in self.objects.items() if k[0] != "ChatModel"
        }
        item = {
            "metadata": {"name": "small", "annotations": {"carepath.ai/is-default-class": "true"}},
            "spec": CLASS.dump(),
        }
        pods = json.loads(json.dumps(list(self.pods.values())))
        return reading.read_picture(reading.read_chatmodel(raw), live, pods, [item])

    async def create(self, manifest: Raw) -> bool:
        key = (manifest["kind"], manifest["metadata"]["name"])
        if key in self.objects:
            return False
        with self._write(f"create {key[0]} {key[1]}"):
            self._put(key, manifest)
        return True

    async def apply(self, manifest: Raw, live: Raw | None, *, guarded: bool = False) -> bool:
        body = {k: v for k, v in manifest.items() if k not in ("apiVersion", "kind")}
        if live is not None and comparing.is_part_of(body, live):
            return False
        key = (manifest["kind"], manifest["metadata"]["name"])
        there = self.objects.get(key)
        if guarded and live is not None and there is not None:
            if there["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]:
                raise errors.Conflict("apply", "Conflict", "it has moved")
        with self._write(_describe(manifest)):
            self._put(key, manifest)
        return True

    async def record(self, namespace: str, revision: Any, part: str, body: Raw) -> None:
        there = self.objects["ChatModelRevision", revision.name]
        if there["metadata"]["resourceVersion"] != revision.resource_version:
            raise errors.Conflict("record", "Conflict", "it has moved")
        shown = body if part == "status" else sorted(body)
        with self._write(f"record {revision.name} {part} {json.dumps(shown, sort_keys=True)}"):
            self._merge(there, part, body)

    async def note(self, revision: str, status: Raw) -> None:
        self._merge(self.objects["ChatModelRevision", revision], "status", status)

    async def delete(self, kind: str, namespace: str, name: str, uid: str) -> None:
        with self._write(f"delete {kind} {name}"):
            self.objects.pop((kind, name), None)
            for pod in [n for n, p in self.pods.items() if p["metadata"]["labels"]["of"] == name]:
                del self.pods[pod]

    async def patch_status(self, chatmodel: Any, status: Raw) -> bool:
        there = self.objects["ChatModel", chatmodel.name]
        if there["status"] == status:
            return False
        before, after = _ready(there["status"]), _ready(status)
        line = f"status Ready={after['status']} {after['reason']}: {after['message']}"
        with self._write(line if before != after else ""):
            there["status"] = json.loads(json.dumps(status))
        return True

    async def post_event(self, event: Raw) -> None:
        """Events repeat what the status says."""

    def ask(self, chatmodel: Any, question: rollout.Question) -> None:
        """Answer a verification at once, as the pod would."""
        if question.kind != "verify":
            return
        there = self.objects["ChatModelRevision", question.revision.name]
        status = there["status"]
        if "bad-verify" in str(question.revision.spec.source.model_id):
            count = (status.get("verification") or {}).get("failures", 0) + 1
            wrong = {"failures": count, "reason": "VerificationFailed", "message": "it was empty"}
            self._merge(there, "status", {"verification": wrong})
        else:
            stamp = format_time(self.now())
            self._merge(there, "status", {"answeredAt": stamp, "progressAt": stamp})

    # --- storing ---------------------------------------------------------------------------------

    def _write(self, line: str) -> "_Write":
        self.writes += 1
        return _Write(self, line)

    def _put(self, key: tuple[str, str], manifest: Raw) -> None:
        self.version += 1
        there = self.objects.setdefault(key, {"metadata": {}, "status": {}})
        body = json.loads(json.dumps(manifest))
        meta = there["metadata"] | body.pop("metadata")
        meta.setdefault("uid", f"u-{key[0]}-{key[1]}")
        meta.setdefault("creationTimestamp", format_time(self.now()))
        meta["resourceVersion"] = str(self.version)
        there.update(body)
        there["metadata"] = meta
        if key[0] == "PersistentVolumeClaim":
            storage = body["spec"]["resources"]["requests"]["storage"]
            there["status"] = {"phase": "Bound", "capacity": {"storage": storage}}

    def _merge(self, there: Raw, part: str, body: Raw) -> None:
        self.version += 1
        there["metadata"]["resourceVersion"] = str(self.version)
        target = there.setdefault(part, {})
        for key, value in json.loads(json.dumps(body)).items():
            if value is None:
                target.pop(key, None)
            else:
                target[key] = value

    # --- the controllers ------------------------------------------------------------------------

    def step(self) -> bool:
        """Let every controller do one thing; return whether one did."""
        moved = False
        for (kind, name), body in list(self.objects.items()):
            if kind == "Deployment":
                moved |= self._step_deployment(name, body)
            elif kind == "Job":
                moved |= self._step_job(name, body)
        for pod in list(self.pods.values()):
            moved |= self._step_pod(pod)
        return moved

    def _step_deployment(self, name: str, body: Raw) -> bool:
        mine = [n for n, p in self.pods.items() if p["metadata"]["labels"].get("of") == name]
        wanted = body["spec"]["replicas"]
        if len(mine) > wanted:
            del self.pods[mine[-1]]
            return True
        if len(mine) < wanted:
            self._make_pod(f"{name}-{self.version}", name, body["spec"]["template"])
            return True
        return False

    def _step_job(self, name: str, body: Raw) -> bool:
        if body["status"]:
            return False
        pod = next((p for p in self.pods.values() if p["metadata"]["labels"]["of"] == name), None)
        if pod is None:
            self._make_pod(f"{name}-pod", name, body["spec"]["template"])
            return True
        if not pod["status"]:
            return False
        code = pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"]
        kind = "Complete" if code == 0 else "Failed"
        done = {"type": kind, "status": "True", "lastTransitionTime": format_time(self.now())}
        body["status"] = {"conditions": [done]}
        return True

    def _make_pod(self, name: str, owner: str, template: Raw) -> None:
        self.version += 1
        meta = {
            "name": name,
            "labels": template["metadata"]["labels"] | {"of": owner},
            "creationTimestamp": format_time(self.now()),
        }
        self.pods[name] = {"metadata": meta, "spec": template["spec"], "status": {}}

    def _step_pod(self, pod: Raw) -> bool:
        status = pod["status"]
        env = pod["spec"]["containers"][0]["env"]
        config = json.loads(next(e["value"] for e in env if e["name"] == names.ENV_CONFIG))
        model = str(config.get("modelID"))
        if config["command"] == "serve" and (found := self._place(pod)) is not None:
            return found
        status = pod["status"]
        if status and not self._dies(pod, config, model):
            return False
        if config["command"] == "inspect":
            pod["status"] = _inspected(model)
        elif config["command"] == "stage":
            ended = {"exitCode": 0, "message": "{}"}
            entry = {"name": names.CONTAINER_STAGE, "state": {"terminated": ended}}
            pod["status"] = {"containerStatuses": [entry]}
        elif any(word in model for word in ENDINGS) or status:
            word = next((w for w in ENDINGS if w in model), "oom")
            pod["status"] = _ended(*ENDINGS[word], format_time(self.now()))
        else:
            pod["status"] = _running("never-ready" not in model)
        return True

    def _place(self, pod: Raw) -> bool | None:
        """Put a pod on the node; None when it is there, else whether its status changed."""
        if self.room is None or pod.get("placed"):
            return None
        fits = "giant" not in json.dumps(pod["spec"])
        if fits and sum(bool(p.get("placed")) for p in self.pods.values()) < self.room:
            pod["placed"], pod["status"] = True, {}
            return None
        if pod["status"]:
            return False
        unplaced = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu.",
            "lastTransitionTime": format_time(self.now()),
        }
        pod["status"] = {"conditions": [unplaced]}
        return True

    def _dies(self, pod: Raw, config: Raw, model: str) -> bool:
        """Say whether a pod that serves breaks down now: some seconds into the bake."""
        revision = self.objects.get(("ChatModelRevision", config["revision"]), {"status": {}})
        since = revision["status"].get("servingAt")
        alive = "state" not in json.dumps(pod["status"]) or '"running"' in json.dumps(pod["status"])
        return (
            "dies-in-bake" in model
            and since is not None
            and alive
            and self.now() > observed.parse_time(since) + datetime.timedelta(seconds=5)
        )


class _Write:
    """One write of the operator: it is told, and it may be the operator's last."""

    def __init__(self, world: World, line: str) -> None:
        self.world, self.line = world, line

    def __enter__(self) -> None:
        if self.world.kill_at == (self.world.writes, "before"):
            raise Killed

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            if self.line:
                self.world.say(self.line)
            if self.world.kill_at == (self.world.writes, "after"):
                raise Killed


def _describe(manifest: Raw) -> str:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    if kind == "Service":
        return f"traffic -> {manifest['spec']['selector'][names.LABEL_REVISION]}"
    if kind == "Deployment":
        return f"apply Deployment {name} replicas={manifest['spec']['replicas']}"
    return f"apply {kind} {name}"


def _ready(status: Raw) -> Raw | None:
    return next((c for c in status.get("conditions", []) if c["type"] == "Ready"), None)


def _inspected(model: str) -> Raw:
    if "not-found" in model:
        ended = {"exitCode": 65, "message": '{"reason": "ModelNotFound", "message": "no such"}'}
    elif "hub-down" in model:
        ended = {"exitCode": 75, "message": '{"reason": "HubUnavailable", "message": "503"}'}
    else:
        weights = 10**12 if "huge" in model else 8
        formats = ["gguf"] if "gguf" in model else ["safetensors"]
        found = {"commit": COMMIT, "totalBytes": 9, "weightBytes": weights, "formats": formats}
        text = json.dumps(found | {"chatTemplate": True, "thinking": False})
        ended = {"exitCode": 0, "message": text}
    entry = {"name": names.CONTAINER_INSPECT, "state": {"terminated": ended}}
    return {"containerStatuses": [entry]}


def _ended(code: int, reason: str, message: str, restarts: int, at: str) -> Raw:
    ended = {"exitCode": code, "reason": reason, "message": message, "finishedAt": at}
    state = {"terminated": ended}
    entry = {"name": names.CONTAINER_SERVE, "restartCount": restarts, "state": state}
    return {"conditions": [{"type": "Ready", "status": "False"}], "containerStatuses": [entry]}


def _running(ready: bool) -> Raw:
    entry = {"name": names.CONTAINER_SERVE, "state": {"running": {}}}
    word = "True" if ready else "False"
    conditions = [{"type": "Ready", "status": word}]
    return {"podIP": "10.0.0.1", "conditions": conditions, "containerStatuses": [entry]}
