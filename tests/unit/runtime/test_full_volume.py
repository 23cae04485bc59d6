"""A volume that is too small, or full half-way: both numbers, and the room is given back."""

import json
import pathlib
import shutil
import subprocess
import sys
from typing import Any, Protocol

import pytest
from small_models import COMMIT, safetensors

from chatmodel_runtime import hub, model_manager, pruning, settings
from chatmodel_runtime.errors import Failure

OLD = "2" * 40
MODEL = "demo/tiny"
MIB = 1024 * 1024


class Mirror(Protocol):
    """The fixture of conftest.py, as far as it is used here."""

    root: pathlib.Path
    endpoint: str

    def fail(self, *faults: dict[str, Any]) -> None: ...
    def asked(self, part: str) -> list[dict[str, Any]]: ...


def stage(mirror: Mirror, root: pathlib.Path) -> pathlib.Path:
    client = hub.HubClient(settings.Hub(endpoint=mirror.endpoint))
    return model_manager.stage(client, MODEL, COMMIT, root, model_manager.Progress(COMMIT))


def resize(mirror: Mirror, size: int) -> None:
    (mirror.root / MODEL / COMMIT / "model.safetensors").write_bytes(safetensors(size))


def put_old_model(mirror: Mirror, volume: pathlib.Path) -> pathlib.Path:
    """Stage a model and give it another commit's name."""
    resize(mirror, 3 * MIB)
    old = stage(mirror, volume).with_name(OLD)
    old.with_name(COMMIT).rename(old)
    return old


def test_too_large_a_model_is_refused_with_both_numbers(
    mirror: Mirror, volume: pathlib.Path
) -> None:
    old = put_old_model(mirror, volume)
    resize(mirror, 100 * MIB)
    with pytest.raises(Failure, match="InsufficientStorage") as caught:
        stage(mirror, volume)
    numbers = [int(word) for word in caught.value.message.split() if word.isdigit()]
    assert numbers[0] > 100 * MIB
    assert numbers[1] == shutil.disk_usage(volume).free
    assert caught.value.retryable
    assert model_manager.check(old) > 3 * MIB
    assert [path.name for path in old.parent.iterdir()] == [OLD]


def test_a_volume_that_fills_up_half_way_gets_its_room_back(
    mirror: Mirror, volume: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = put_old_model(mirror, volume)
    resize(mirror, 30 * MIB)
    monkeypatch.setattr(model_manager, "SPARE_BYTES", -(20 * MIB))  # somebody else takes it later
    free = shutil.disk_usage(volume).free
    with pytest.raises(Failure, match="InsufficientStorage") as caught:
        stage(mirror, volume)
    assert caught.value.retryable
    assert mirror.asked("model.safetensors")
    assert shutil.disk_usage(volume).free == free
    assert model_manager.check(old) > 3 * MIB


def test_room_is_made_before_it_is_looked_at(
    mirror: Mirror, volume: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    old = put_old_model(mirror, volume)
    (old / "model.safetensors").write_bytes(bytes(15 * MIB))
    config = {
        "command": "stage",
        "chatModel": "triage",
        "revision": "triage-1",
        "modelID": MODEL,
        "commit": COMMIT,
        "modelsRoot": str(volume),
        "hub": {"endpoint": mirror.endpoint},
    }
    resize(mirror, 4 * MIB)
    code = (
        "import os, sys\nfrom chatmodel_runtime import commands, server\n"
        "server.serve_in_thread = lambda *_: None\ncommands.stage(os.environ)\n"
    )

    def run(**more: Any) -> int:
        env = {"CHATMODEL_CONFIG": json.dumps(config | more), "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
        )
        return done.returncode

    assert run(keep=[f"demo--tiny/{OLD}"]) != 0
    assert (old / pruning.COMPLETE).exists()
    assert run() != 0
    assert (old / pruning.COMPLETE).exists()
    assert run(keep=[]) == 0
    assert not old.exists()
    assert model_manager.check(old.with_name(COMMIT)) > 4 * MIB
