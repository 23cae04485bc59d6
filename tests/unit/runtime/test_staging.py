"""Models on disk: complete or absent, whatever happens, and never changed unnoticed."""

import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Protocol

import pytest
from small_models import COMMIT, safetensors

from chatmodel_runtime import hub, model_manager, settings
from chatmodel_runtime.errors import Failure
from chatmodel_runtime.progress import Progress

MODEL = "demo/tiny"


class Mirror(Protocol):
    """The fixture of conftest.py, as far as it is used here."""

    root: pathlib.Path
    endpoint: str

    def fail(self, *faults: dict[str, Any]) -> None: ...
    def asked(self, part: str) -> list[dict[str, Any]]: ...


def stage(mirror: Mirror, root: pathlib.Path, progress: Progress | None = None) -> pathlib.Path:
    client = hub.HubClient(settings.Hub(endpoint=mirror.endpoint))
    progress = progress or Progress(COMMIT)
    return model_manager.stage(client, MODEL, COMMIT, root, progress)


@pytest.fixture
def staged(mirror: Mirror, tmp_path: pathlib.Path) -> pathlib.Path:
    return stage(mirror, tmp_path / "models")


def test_a_staged_model_is_where_it_belongs_with_manifest_and_marker(
    staged: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert staged == tmp_path / "models" / "demo--tiny" / COMMIT
    names = {path.name for path in staged.iterdir()}
    assert names == {
        "COMPLETE",
        "manifest.json",
        "config.json",
        "tokenizer_config.json",
        "model.safetensors",
    }
    manifest = json.loads((staged / "manifest.json").read_text())
    assert (manifest["modelID"], manifest["commit"]) == (MODEL, COMMIT)
    assert manifest["files"]["model.safetensors"]["size"] == 400_000
    assert model_manager.check(staged) == sum(e["size"] for e in manifest["files"].values())


def test_what_is_complete_is_not_fetched_again(mirror: Mirror, staged: pathlib.Path) -> None:
    before = len(mirror.asked("/"))
    assert stage(mirror, staged.parents[1]) == staged
    assert len(mirror.asked("/")) == before


def test_what_is_complete_still_has_its_size(mirror: Mirror, staged: pathlib.Path) -> None:
    progress = Progress(COMMIT)
    stage(mirror, staged.parents[1], progress)
    assert progress.total_bytes == model_manager.check(staged)


def test_a_folder_without_its_marker_is_replaced(mirror: Mirror, staged: pathlib.Path) -> None:
    (staged / "COMPLETE").unlink()
    (staged / "model.safetensors").write_bytes(b"half")
    stage(mirror, staged.parents[1])
    assert model_manager.check(staged)


def test_a_model_that_was_changed_is_fetched_afresh(mirror: Mirror, staged: pathlib.Path) -> None:
    flip(staged / "model.safetensors")
    assert stage(mirror, staged.parents[1]) == staged
    assert model_manager.check(staged)


def test_a_changed_model_that_cannot_be_fetched_is_missing(
    mirror: Mirror, staged: pathlib.Path
) -> None:
    flip(staged / "model.safetensors")
    mirror.fail({"match": "/", "status": 404, "times": 99})
    with pytest.raises(Failure):
        stage(mirror, staged.parents[1])
    with pytest.raises(Failure, match="CacheMissing"):
        model_manager.check(staged)


def flip(path: pathlib.Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


@pytest.mark.parametrize(
    ("harm", "code", "reason"),
    [
        pytest.param(lambda d: (d / "COMPLETE").unlink(), 75, "CacheMissing", id="no marker"),
        pytest.param(lambda d: flip(d / "model.safetensors"), 65, "IntegrityError", id="a bit"),
        pytest.param(lambda d: flip(d / "config.json"), 65, "IntegrityError", id="a setting"),
        pytest.param(lambda d: flip(d / "manifest.json"), 65, "IntegrityError", id="the manifest"),
        pytest.param(
            lambda d: (d / "COMPLETE").write_text(""), 65, "IntegrityError", id="an empty marker"
        ),
        pytest.param(
            lambda d: (d / "model.safetensors").write_bytes(b""), 65, "IntegrityError", id="cut"
        ),
        pytest.param(
            lambda d: (d / "config.json").unlink(), 65, "IntegrityError", id="a file is gone"
        ),
        pytest.param(
            lambda d: (d / "evil.py").write_text("x"), 65, "IntegrityError", id="a file was added"
        ),
        pytest.param(lambda d: (d / "more").mkdir(), 65, "IntegrityError", id="a folder was added"),
        pytest.param(
            lambda d: (d / "COMPLETE").write_bytes(b"\xff"), 65, "IntegrityError", id="no letters"
        ),
        pytest.param(
            lambda d: (
                shutil.move(d / "config.json", d.parent)
                and (d / "config.json").symlink_to("../config.json")
            ),
            65,
            "IntegrityError",
            id="a link to the same bytes",
        ),
    ],
)
def test_a_changed_model_is_never_loaded(
    staged: pathlib.Path, harm: Callable[[pathlib.Path], object], code: int, reason: str
) -> None:
    harm(staged)
    with pytest.raises(Failure) as caught:
        model_manager.check(staged)
    assert (caught.value.exit_code, caught.value.reason) == (code, reason)


def test_a_marker_without_manifest_is_a_bad_model(staged: pathlib.Path) -> None:
    (staged / "manifest.json").unlink()
    with pytest.raises(Failure):
        model_manager.check(staged)


def test_an_absent_model_is_missing(tmp_path: pathlib.Path) -> None:
    with pytest.raises(Failure) as caught:
        model_manager.check(tmp_path / "nowhere")
    assert (caught.value.exit_code, caught.value.reason) == (75, "CacheMissing")


def test_a_full_volume_is_said_before_the_first_byte(
    mirror: Mirror, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_manager, "SPARE_BYTES", 1 << 60)
    with pytest.raises(Failure) as caught:
        stage(mirror, tmp_path / "models")
    assert (caught.value.exit_code, caught.value.reason) == (75, "InsufficientStorage")
    assert not mirror.asked("/resolve/")


def test_progress_counts_bytes_and_knows_the_total(mirror: Mirror, tmp_path: pathlib.Path) -> None:
    progress = Progress(COMMIT)
    assert progress.read()["etaSeconds"] is None
    stage(mirror, tmp_path / "models", progress)
    seen = progress.read()
    assert seen["doneBytes"] == seen["totalBytes"] > 400_000
    assert (seen["phase"], seen["etaSeconds"], seen["commit"]) == ("finishing", 0, COMMIT)


def test_what_an_earlier_try_left_says_nothing_of_the_speed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "model.safetensors.part").write_bytes(bytes(900))
    progress = Progress(COMMIT)
    progress.begin(1000, 900, tmp_path)
    seen = progress.read()
    assert (seen["doneBytes"], seen["bytesPerSecond"], seen["etaSeconds"]) == (900, 0, None)
    (tmp_path / "model.safetensors.part").write_bytes(bytes(950))
    seen = progress.read()
    assert seen["doneBytes"] == 950 and seen["bytesPerSecond"] > 0
    assert seen["etaSeconds"] is not None


def stage_as_process(mirror: Mirror, root: pathlib.Path) -> subprocess.Popen[bytes]:
    code = (
        "import pathlib, sys\n"
        "from chatmodel_runtime import hub, model_manager, settings\n"
        "from chatmodel_runtime.progress import Progress\n"
        "client = hub.HubClient(settings.Hub(endpoint=sys.argv[1]))\n"
        "progress = Progress(sys.argv[3])\n"
        "root = pathlib.Path(sys.argv[4])\n"
        "model_manager.stage(client, sys.argv[2], sys.argv[3], root, progress)\n"
    )
    args = [mirror.endpoint, MODEL, COMMIT, str(root)]
    return subprocess.Popen(
        [sys.executable, "-c", code, *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def reached(point: str, mirror: Mirror, model: pathlib.Path) -> bool:
    parts = list(model.glob(".*.staging/*.part"))
    if point == "listing":
        return bool(mirror.asked("/revision/"))
    if point == "first file":
        return bool(mirror.asked("/resolve/"))
    if point == "weights begun":
        return any("safetensors" in request["path"] for request in mirror.asked("/resolve/"))
    return any(part.stat().st_size > 1_000_000 for part in parts if part.exists())


@pytest.mark.parametrize("point", ["listing", "first file", "weights begun", "half of them"])
def test_a_kill_leaves_no_model_and_the_next_try_goes_on(
    mirror: Mirror, tmp_path: pathlib.Path, point: str
) -> None:
    weights = mirror.root / MODEL / COMMIT / "model.safetensors"
    weights.write_bytes(safetensors(4_000_000))
    mirror.fail({"match": "resolve", "seconds_per_mib": 0.3, "times": 99})
    root = tmp_path / "models"
    final = model_manager.model_folder(root, MODEL, COMMIT)
    process = stage_as_process(mirror, root)
    while process.poll() is None:
        if reached(point, mirror, final.parent):
            process.kill()
    assert process.wait() == -9, "the kill came too late"
    assert not final.exists()
    with pytest.raises(Failure, match="CacheMissing"):
        model_manager.check(final)
    mirror.fail()
    stage(mirror, root)
    assert model_manager.check(final) > 4_000_000
    assert [path.name for path in final.parent.iterdir()] == [COMMIT]
