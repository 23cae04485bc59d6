"""Five hundred kills, cuts, wrong bytes and damaged files while staging: no bad file is loaded.

STAGING_SEED=n plays the same again.
"""

import collections
import json
import os
import pathlib
import random
import re
import select
import shutil
from collections.abc import Iterator
from typing import Any, Protocol

import hub_mirror
import pytest
import stager
from small_models import COMMIT, CONFIGS, SHAPE, gguf, ir, safetensors

from chatmodel_runtime import model_manager
from chatmodel_runtime.errors import Failure

EVENTS, KILLS = 500, 200
DAMAGES = ("flip", "flip", "cut", "cut", "more", "gone", "link")
COUNTED = ("kill", "cut", "short", "flip", "flip on the disk", "cut on the disk")
SHARDS = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
INDEX = json.dumps({"weight_map": dict(zip("ab", SHARDS, strict=True))}).encode()
MODELS: dict[str, dict[str, bytes]] = {
    "demo/shards": {
        **CONFIGS,
        "model.safetensors.index.json": INDEX,
        SHARDS[0]: safetensors(150_000),
        SHARDS[1]: safetensors(90_000),
    },
    "demo/ir": {**CONFIGS, **ir(110_000)},
    "demo/gguf": {"tiny.gguf": gguf(300_000)},
}
PATH = {"_name_or_path": "/home/author"}  # what is dropped makes a file differ from the hub's


class Mirror(Protocol):
    """The fixture of conftest.py, as far as it is used here."""

    endpoint: str
    server: hub_mirror.MirrorServer

    def publish(self, model_id: str, files: dict[str, bytes], **refs: Any) -> None: ...
    def fail(self, *faults: dict[str, Any]) -> None: ...
    def asked(self, part: str) -> list[dict[str, Any]]: ...


@pytest.fixture
def forking(tmp_path: pathlib.Path) -> Iterator[stager.Stager]:
    with stager.running(tmp_path) as running:
        yield running


class Chaos:
    """One model after the other, and what is done to it."""

    def __init__(
        self, rng: random.Random, mirror: Mirror, forking: stager.Stager, root: pathlib.Path
    ) -> None:
        self.rng, self.mirror, self.forking, self.root = rng, mirror, forking, root
        self.counts: collections.Counter[str] = collections.Counter()
        self.clean: dict[str, stager.Ended] = {}
        self.is_harmed = False
        self.model_id = ""

    @property
    def final(self) -> pathlib.Path:
        return model_manager.model_folder(self.root, self.model_id, COMMIT)

    def config(self) -> dict[str, Any]:
        return {
            "command": "stage",
            "chatModel": "triage",
            "revision": "triage-1",
            "modelID": self.model_id,
            "commit": COMMIT,
            "modelsRoot": str(self.root),
            "hub": {"endpoint": self.mirror.endpoint},
        }

    def learn(self) -> None:
        """Count the steps of undisturbed runs, so that deaths can fall anywhere in them."""
        for self.model_id in MODELS:
            ended = self.forking.run(self.config())
            assert ended.status == 0 and ended.in_files > 30
            self.clean[self.model_id] = ended
            self.check(ended.status)
        shutil.rmtree(self.root)

    def play(self) -> None:
        """Damage, disturb and kill one run; see what it left."""
        if self.rng.random() < 0.6:
            self.damage()
        self.mirror.fail(*self.faults())
        self.mirror.server.requests.clear()
        ended = self.run()
        assert ended.status in (0, -9), f"ended with {ended.status}"
        self.counts["kill"] += ended.status == -9
        for fault in self.mirror.server.faults:
            self.counts[fault["kind"]] += self.took_effect(fault)
        self.check(ended.status)
        if ended.status == 0 and self.rng.random() < 0.7:
            shutil.rmtree(self.root)
            self.is_harmed = False

    def took_effect(self, fault: dict[str, Any]) -> bool:
        """Say whether wrong or missing bytes were among those that were asked for."""
        asked = self.mirror.asked(fault["match"])
        if fault["kind"] not in COUNTED or not asked:
            return False
        begin = int((re.findall(r"=(\d+)-", asked[0]["range"]) or ["0"])[0])
        at, size = fault[fault["kind"]], len(MODELS[self.model_id][fault["match"][1:]])
        return begin <= at if fault["kind"] == "flip" else begin + at < size

    def run(self) -> stager.Ended:
        kind = self.rng.choice(["none", "file", "file", "file", "call", "outside"])
        if kind == "outside":
            return self.kill_from_outside()
        clean = self.clean[self.model_id]
        steps = {"none": 1, "file": clean.in_files, "call": clean.calls}[kind]
        at = self.rng.randrange(steps)
        return self.forking.run(self.config(), None if kind == "none" else (kind, at))

    def kill_from_outside(self) -> stager.Ended:
        """Kill a process in the middle of a body that is held up; it may have none to fetch."""
        name = self.rng.choice(sorted(MODELS[self.model_id]))
        size = len(MODELS[self.model_id][name])
        fault = {"match": f"/{name}", "hang": self.rng.randrange(size), "times": 1, "kind": "hang"}
        self.mirror.fail(*self.mirror.server.faults, fault)
        child = self.forking.begin(self.config())
        while not self.mirror.server.hanging.acquire(timeout=0.05):
            if select.select([self.forking.stdout], [], [], 0)[0]:
                return child.wait()
        child.kill()
        return child.wait()

    def faults(self) -> list[dict[str, Any]]:
        """Return what the hub does wrong: never the same file's bytes twice in one run."""
        found: list[dict[str, Any]] = []
        names = sorted(MODELS[self.model_id])
        for name in self.rng.sample(names, min(len(names), self.rng.randrange(3))):
            at = self.rng.randrange(len(MODELS[self.model_id][name]))
            kind = self.rng.choice(["cut", "short", "flip", "status"])
            what = {"status": 503, "headers": {"Retry-After": "0"}} if kind == "status" else {}
            found.append({"match": f"/{name}", kind: at, "times": 1, "kind": kind, **what})
        return found

    def damage(self) -> None:
        """Change a file that is on the disk."""
        there = [path for path in self.final.parent.glob("*/*") if path.is_file()]
        if not there:
            return
        path = self.rng.choice(sorted(there))
        is_ready = (self.final / "COMPLETE").exists()
        body, kind = path.read_bytes(), self.rng.choice(DAMAGES)
        at = self.rng.randrange(len(body)) if body else 0
        path.unlink()
        if kind == "flip" and body:
            path.write_bytes(body[:at] + bytes([body[at] ^ 4]) + body[at + 1 :])
        elif kind == "cut":
            path.write_bytes(body[:at])
        elif kind == "more":
            path.write_bytes(body + b"more")
        elif kind == "link":
            (self.root / "elsewhere").write_bytes(body)
            path.symlink_to(self.root / "elsewhere")
        self.counts[f"{kind} on the disk"] += 1
        self.is_harmed |= path.parent == self.final
        if is_ready and path.parent == self.final:
            with pytest.raises(Failure):
                model_manager.check(self.final)

    def check(self, status: int) -> None:
        """See that the model is absent, or complete to the last byte, or refused."""
        self.is_harmed &= status != 0
        try:
            model_manager.check(self.final)
        except Failure as failure:
            assert status != 0
            assert self.is_harmed or failure.reason == "CacheMissing", failure
            return
        for name, body in MODELS[self.model_id].items():
            seen = (self.final / name).read_bytes()
            assert seen == body or json.loads(seen) | PATH == json.loads(body), name


def test_whatever_happens_while_staging_no_bad_file_is_loaded(
    mirror: Mirror, forking: stager.Stager, tmp_path: pathlib.Path
) -> None:
    seed = int(os.environ.get("STAGING_SEED") or random.SystemRandom().randrange(10**6))
    config = json.dumps(SHAPE | PATH).encode()
    for model_id, files in MODELS.items():
        if "config.json" in files:
            files["config.json"] = config
        mirror.publish(model_id, files)
    chaos = Chaos(random.Random(seed), mirror, forking, tmp_path / "models")
    rounds = 0
    try:
        chaos.learn()
        while sum(chaos.counts[kind] for kind in COUNTED) < EVENTS or chaos.counts["kill"] < KILLS:
            rounds += 1
            if rounds % 8 == 1:
                chaos.model_id = chaos.rng.choice(sorted(MODELS))
                chaos.is_harmed = False
                shutil.rmtree(chaos.root, ignore_errors=True)
            chaos.play()
        mirror.fail()
        ended = forking.run(chaos.config())
        chaos.check(ended.status)
    except BaseException:
        print(f"STAGING_SEED={seed}, round {rounds}, {chaos.model_id}, {dict(chaos.counts)}")
        print((tmp_path / "log").read_text()[-3000:])
        raise
    assert ended.status == 0
    assert [path.name for path in chaos.final.parent.iterdir()] == [COMMIT]
    print(f"{rounds} rounds: {dict(chaos.counts)}")
