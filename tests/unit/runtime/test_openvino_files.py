"""Where OpenVINO loads a model from: pods mount it read-only, and the library wants to write."""

import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import aclosing

import models
import pytest

from chatmodel_runtime.engines import Request, openvino_files
from chatmodel_runtime.engines.openvino import OpenVINOEngine
from chatmodel_runtime.errors import TryAgain

SMALL = "256k"  # less than the stand-in has


def mount(folder: pathlib.Path, *options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def read_only(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The stand-in as a GGUF file, where nothing can be written."""
    folder = tmp_path / "models"
    folder.mkdir()
    mount(folder, "size=4m")
    file = next(models.qwen_gguf().iterdir())
    shutil.copy(file, folder)
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    yield folder / file.name
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def scratch(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder for temporary files, of this test's own."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


async def test_a_gguf_file_that_is_read_only_is_loaded_and_its_copy_is_gone(
    read_only: pathlib.Path, scratch: pathlib.Path
) -> None:
    engine = OpenVINOEngine(read_only.parent, threads=1)
    engine.load()
    try:
        assert list(scratch.iterdir()) == []
        asked = Request(engine.tokenizer.encode("Patient"), 2)
        async with aclosing(engine.submit(asked)) as steps:
            assert [step async for step in steps]
    finally:
        engine.close()


def test_what_may_be_written_to_is_not_copied() -> None:
    for folder in (models.qwen_gguf(), models.qwen_ir()):
        found = openvino_files.find(folder)
        with openvino_files.open_to_writing(found.path) as path:
            assert path == found.path


@pytest.fixture
def full(scratch: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder for temporary files with less room than the copy takes."""
    mount(scratch, f"size={SMALL}")
    yield scratch
    subprocess.run(["umount", str(scratch)], check=True)


def test_a_copy_that_finds_no_room_is_said_with_both_numbers(
    read_only: pathlib.Path, full: pathlib.Path
) -> None:
    engine = OpenVINOEngine(read_only.parent, threads=1)
    with pytest.raises(TryAgain) as caught:
        engine.load()
    assert caught.value.reason == "InsufficientStorage"
    numbers = [int(word) for word in caught.value.message.split() if word.isdigit()]
    assert numbers[0] == read_only.stat().st_size > numbers[1]
    assert list(full.iterdir()) == []
