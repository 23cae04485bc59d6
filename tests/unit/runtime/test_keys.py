"""API keys from mounted files."""

import os
import pathlib

import pytest

from chatmodel_runtime import keys
from chatmodel_runtime.errors import TryAgain
from chatmodel_runtime.settings import Auth


def opened(path: pathlib.Path) -> keys.ApiKeys:
    return keys.ApiKeys(Auth(mode="ApiKey", keys_dir=path))


def allows(api_keys: keys.ApiKeys, headers: dict[str, str]) -> bool:
    return api_keys.find_owner(headers) is not None


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "api-key").write_text("right\n")
    (tmp_path / "second").write_text("also")
    return tmp_path


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        pytest.param(bearer("right"), True, id="a bearer"),
        pytest.param({"x-api-key": "right"}, True, id="the other header"),
        pytest.param(bearer("also"), True, id="the key of another file"),
        pytest.param(bearer("wrong"), False, id="a wrong one"),
        pytest.param(bearer("righ"), False, id="a beginning"),
        pytest.param(bearer("right "), False, id="a space more"),
        pytest.param(bearer(""), False, id="an empty bearer"),
        pytest.param({"x-api-key": ""}, False, id="an empty header"),
        pytest.param({}, False, id="nothing"),
        pytest.param({"authorization": "Basic right"}, False, id="another scheme"),
        pytest.param(bearer("ré\udcffght"), False, id="letters beyond ASCII"),
        pytest.param(
            {"x-api-key": "wrong", "authorization": "Bearer right"}, False, id="two that disagree"
        ),
    ],
)
def test_only_a_key_opens(folder: pathlib.Path, headers: dict[str, str], allowed: bool) -> None:
    assert allows(opened(folder), headers) is allowed


def test_the_scheme_may_be_written_in_any_case(folder: pathlib.Path) -> None:
    assert allows(opened(folder), {"authorization": "bearer right"})


def test_a_key_without_a_scheme_opens_nothing(folder: pathlib.Path) -> None:
    assert not allows(opened(folder), {"authorization": "right"})


def test_a_key_that_was_replaced_is_void_at_once(folder: pathlib.Path) -> None:
    api_keys = opened(folder)
    assert allows(api_keys, bearer("right"))
    (folder / "new").write_text("fresh")
    os.replace(folder / "new", folder / "api-key")
    assert allows(api_keys, bearer("fresh"))
    assert not allows(api_keys, bearer("right"))


def test_a_key_that_was_replaced_within_one_tick_of_the_clock_is_void_too(
    folder: pathlib.Path,
) -> None:
    api_keys = opened(folder)
    assert allows(api_keys, bearer("right"))
    before = (folder / "api-key").stat()
    (folder / "new").write_text("fresh\n")
    os.utime(folder / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(folder / "new", folder / "api-key")
    assert [allows(api_keys, bearer(key)) for key in ("fresh", "right")] == [True, False]


def test_a_key_that_is_added_opens_at_once(folder: pathlib.Path) -> None:
    os.utime(folder, ns=(0, 0))  # nothing has changed there for long
    api_keys = opened(folder)
    assert [allows(api_keys, bearer(key)) for key in ("right", "fresh")] == [True, False]
    (folder / "new").write_text("fresh")
    assert allows(api_keys, bearer("fresh"))


def test_a_key_that_is_added_within_one_tick_of_the_clock_opens_too(folder: pathlib.Path) -> None:
    api_keys = opened(folder)
    assert not allows(api_keys, bearer("fresh"))
    before = folder.stat()
    (folder / "new").write_text("fresh")
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert allows(api_keys, bearer("fresh"))


def test_a_mounted_secret_is_followed_when_the_kubelet_swaps_it(tmp_path: pathlib.Path) -> None:
    for version, key in (("..v1", "first"), ("..v2", "second")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "api-key").write_text(key)
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "api-key").symlink_to("..data/api-key")
    api_keys = opened(tmp_path)
    assert allows(api_keys, bearer("first"))
    (tmp_path / "..tmp").symlink_to("..v2")
    os.replace(tmp_path / "..tmp", tmp_path / "..data")
    assert allows(api_keys, bearer("second"))
    assert not allows(api_keys, bearer("first"))


def test_all_keys_taken_away_means_that_nobody_may_ask(folder: pathlib.Path) -> None:
    api_keys = opened(folder)
    assert allows(api_keys, bearer("right"))
    for path in folder.iterdir():
        path.unlink()
    assert not allows(api_keys, bearer("right"))
    assert not allows(api_keys, {})


def test_one_file_holds_a_key_a_line(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "keys"
    path.write_text("one\n\n two \n")
    api_keys = opened(path)
    assert [allows(api_keys, bearer(k)) for k in ("one", "two", "")] == [True, True, False]


@pytest.mark.parametrize("text", [None, "", " \n\n"])
def test_no_key_at_all_is_said_at_the_start(tmp_path: pathlib.Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "api-key").write_text(text)
    with pytest.raises(TryAgain) as caught:
        opened(tmp_path / "absent" if text is None else tmp_path).check()
    assert caught.value.reason == "ApiKeyMissing"


def test_without_authentication_everybody_may_ask() -> None:
    api_keys = keys.ApiKeys(Auth(mode="None"))
    api_keys.check()
    assert allows(api_keys, {})


def test_a_key_is_kept_as_a_hash_only(folder: pathlib.Path) -> None:
    api_keys = opened(folder)
    api_keys.check()
    assert "right" not in repr(vars(api_keys))
