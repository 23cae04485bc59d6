"""Making room on a volume: what is kept stays to the last byte, what is cut short is no model."""

import json
import pathlib
import subprocess
import sys

import pytest

from chatmodel_runtime import model_manager, pruning
from chatmodel_runtime.errors import Failure

A, B, C = "a" * 40, "b" * 40, "c" * 40


def put(root: pathlib.Path, name: str, *, complete: bool = True, size: int = 10) -> pathlib.Path:
    """Lay out a model as `stage` does."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(size))
    entry = {"size": size, "sha256": model_manager.hash_file(folder / "model.safetensors")}
    (folder / "manifest.json").write_text(json.dumps({"files": {"model.safetensors": entry}}))
    if complete:
        marker = model_manager.hash_file(folder / "manifest.json")
        (folder / "COMPLETE").write_text(marker)
    return folder


def there(root: pathlib.Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.glob("*/*")}


def test_what_nobody_needs_goes_and_what_is_kept_stays(tmp_path: pathlib.Path) -> None:
    for name in (f"org--one/{A}", f"org--one/{B}", f"org--two/{C}"):
        put(tmp_path, name)
    removed = pruning.prune(tmp_path, {f"org--one/{A}"})
    assert removed == [f"org--one/{B}", f"org--two/{C}"]
    assert there(tmp_path) == {f"org--one/{A}"}
    assert not (tmp_path / "org--two").exists()
    assert model_manager.check(tmp_path / f"org--one/{A}") == 10


def test_abandoned_tries_go_and_the_one_under_way_stays(tmp_path: pathlib.Path) -> None:
    put(tmp_path, f"org--one/.{A}.staging", complete=False)
    put(tmp_path, f"org--one/.{B}.staging", complete=False)
    put(tmp_path, f"org--one/{C}", complete=False)
    assert pruning.prune(tmp_path, {f"org--one/{A}"}) == [f"org--one/{B}", f"org--one/{C}"]
    assert there(tmp_path) == {f"org--one/.{A}.staging"}


def test_what_is_not_laid_out_as_ours_is_left_alone(tmp_path: pathlib.Path) -> None:
    for name in ("lost+found", "org--one/notes", "org--one/main", f"somebody/{A}"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "org--one" / B).write_text("a file")
    before = there(tmp_path)
    assert pruning.prune(tmp_path, set()) == []
    assert there(tmp_path) == before


def test_links_are_neither_followed_nor_removed(tmp_path: pathlib.Path) -> None:
    outside = put(tmp_path / "outside", f"org--one/{A}")
    root = tmp_path / "models"
    doomed = put(root, f"org--one/{B}")
    (doomed / "inside").symlink_to(outside)
    (doomed / "model.safetensors").unlink()
    (doomed / "model.safetensors").symlink_to(outside / "model.safetensors")
    (root / "org--one" / A).symlink_to(outside)
    (root / "org--two").symlink_to(outside.parent)
    assert pruning.prune(root, set()) == [f"org--one/{B}"]
    assert there(root) >= {f"org--one/{A}"}
    assert model_manager.check(outside) == 10


def test_an_empty_or_absent_volume_is_no_fault(tmp_path: pathlib.Path) -> None:
    assert pruning.prune(tmp_path / "absent", set()) == []
    assert pruning.prune(tmp_path, set()) == []


KILLED = """
import os, pathlib, sys
from chatmodel_runtime import pruning

left, remove = int(sys.argv[2]), os.unlink

def counted(*args, **named):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    remove(*args, **named)

os.unlink = counted
pruning.prune(pathlib.Path(sys.argv[1]), set())
"""


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_cut_short_a_model_is_whole_or_none(tmp_path: pathlib.Path, steps: int) -> None:
    folder = put(tmp_path, f"org--one/{A}")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(steps)], check=False)
    assert done.returncode == (9 if steps < 3 else 0)
    if steps == 0:
        assert model_manager.check(folder) == 10
        return
    with pytest.raises(Failure, match="CacheMissing"):
        model_manager.check(folder)
    assert pruning.prune(tmp_path, set()) == ([f"org--one/{A}"] if steps < 3 else [])
    assert not folder.exists()
