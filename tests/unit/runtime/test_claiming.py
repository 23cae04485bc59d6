"""One writer at a time, without locks: who comes last goes on, whoever was there before ends."""

import os
import pathlib
import threading
from typing import Any, Protocol

import hub_mirror
import pytest
from small_models import COMMIT, FILES, safetensors

from chatmodel_runtime import claiming, hub, model_manager, settings
from chatmodel_runtime.errors import TryAgain
from chatmodel_runtime.progress import Progress

WEIGHTS = "model.safetensors"
MODEL = "demo/tiny"


class Mirror(Protocol):
    """The fixture of conftest.py, as far as it is used here."""

    root: pathlib.Path
    endpoint: str
    server: hub_mirror.MirrorServer

    def fail(self, *faults: dict[str, Any]) -> None: ...
    def asked(self, part: str) -> list[dict[str, Any]]: ...


def stage(mirror: Mirror, root: pathlib.Path) -> pathlib.Path:
    client = hub.HubClient(settings.Hub(endpoint=mirror.endpoint))
    return model_manager.stage(client, MODEL, COMMIT, root, Progress(COMMIT))


def put(folder: pathlib.Path, *names: str) -> pathlib.Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(name.encode())
    return folder


def names_in(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_first_try_has_an_empty_folder_of_its_own(tmp_path: pathlib.Path) -> None:
    final = tmp_path / "org--name" / COMMIT
    first = claiming.claim(final, [WEIGHTS])
    assert names_in(first) == []
    assert first.parent == final.parent and first.name.startswith(f".{COMMIT}.")


@pytest.mark.parametrize(
    "left",
    [
        pytest.param(f".{COMMIT}.0123abcd.staging", id="a try that was cut"),
        pytest.param(COMMIT, id="a model that lost its marker"),
    ],
)
def test_the_next_try_takes_weights_over_and_nothing_else(
    tmp_path: pathlib.Path, left: str
) -> None:
    final = tmp_path / "org--name" / COMMIT
    names = (WEIGHTS, f"{WEIGHTS}.part", "config.json", f"{WEIGHTS}.bad", "evil.py")
    old = put(final.with_name(left), *names)
    put(old / "folder", "file")
    (old / "model-00001-of-00002.safetensors").symlink_to("/etc/passwd")
    mine = claiming.claim(final, [WEIGHTS, "model-00001-of-00002.safetensors"])
    assert names_in(mine) == [WEIGHTS, f"{WEIGHTS}.part"]
    assert names_in(final.parent) == [mine.name]


def test_of_several_tries_one_is_gone_on_with_and_the_others_go(tmp_path: pathlib.Path) -> None:
    final = tmp_path / "org--name" / COMMIT
    other = put(final.with_name("2" * 40), WEIGHTS)
    for mark in ("aaaaaaaa", "bbbbbbbb"):
        put(final.with_name(f".{COMMIT}.{mark}.staging"), WEIGHTS)
    mine = claiming.claim(final, [WEIGHTS])
    assert names_in(final.parent) == sorted([mine.name, other.name])


def test_a_complete_model_is_nobodys_try(tmp_path: pathlib.Path) -> None:
    final = put(tmp_path / "org--name" / COMMIT, WEIGHTS, "COMPLETE")
    assert names_in(claiming.claim(final, [WEIGHTS])) == []
    assert names_in(final) == ["COMPLETE", WEIGHTS]


def test_of_many_at_once_each_has_a_folder_and_no_two_the_same(tmp_path: pathlib.Path) -> None:
    final = tmp_path / "org--name" / COMMIT
    put(final.with_name(f".{COMMIT}.0123abcd.staging"), WEIGHTS)
    claimed: list[pathlib.Path] = []
    threads = [
        threading.Thread(target=lambda: claimed.append(claiming.claim(final, [WEIGHTS])))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(claimed)) == 2
    kept = [path for path in claimed if path.exists() and names_in(path) == [WEIGHTS]]
    assert len(kept) == 1


def test_a_second_process_goes_on_with_what_the_first_has_and_the_first_gives_up(
    mirror: Mirror, tmp_path: pathlib.Path
) -> None:
    (mirror.root / MODEL / COMMIT / WEIGHTS).write_bytes(safetensors(3 << 20))
    mirror.fail({"match": WEIGHTS, "seconds_per_mib": 0.5})
    failures: list[TryAgain] = []

    def run() -> None:
        try:
            stage(mirror, tmp_path)
        except TryAgain as failure:
            failures.append(failure)

    first = threading.Thread(target=run)
    first.start()
    while not mirror.asked(WEIGHTS):
        os.sched_yield()
    assert model_manager.check(stage(mirror, tmp_path))
    first.join(timeout=30)
    assert [failure.reason for failure in failures] == ["CacheMissing"]
    assert names_in(tmp_path / "demo--tiny") == [COMMIT]


def test_who_finishes_second_finds_the_first_ones_model(
    mirror: Mirror, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stage(mirror, tmp_path)
    inode = (first / WEIGHTS).stat().st_ino
    # As it would be for a process that had looked a moment before.
    monkeypatch.setattr(model_manager, "_is_intact", lambda *_: False)
    assert stage(mirror, tmp_path) == first
    assert (first / WEIGHTS).stat().st_ino == inode
    assert (first / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert names_in(tmp_path / "demo--tiny") == [COMMIT]
