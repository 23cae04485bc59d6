"""What comes from the hub: hashed, screened, and fetched once more when it is wrong."""

import json
import pathlib
import shutil
from typing import Any, Protocol

import hub_mirror
import pytest
from small_models import COMMIT, CONFIGS, FILES, GGUF_VALUES, gguf, ir

from chatmodel_runtime import gguf_header, hub, model_manager, settings
from chatmodel_runtime.errors import Failure
from chatmodel_runtime.progress import Progress

MODEL = "demo/tiny"


class Mirror(Protocol):
    """The fixture of conftest.py, as far as it is used here."""

    root: pathlib.Path
    endpoint: str
    server: hub_mirror.MirrorServer

    def publish(self, model_id: str, files: dict[str, bytes], **refs: Any) -> None: ...
    def fail(self, *faults: dict[str, Any]) -> None: ...
    def asked(self, part: str) -> list[dict[str, Any]]: ...


def stage(mirror: Mirror, root: pathlib.Path, model_id: str = MODEL) -> pathlib.Path:
    client = hub.HubClient(settings.Hub(endpoint=mirror.endpoint))
    return model_manager.stage(client, model_id, COMMIT, root, Progress(COMMIT))


@pytest.fixture
def staged(mirror: Mirror, tmp_path: pathlib.Path) -> pathlib.Path:
    return stage(mirror, tmp_path / "models")


def flip(path: pathlib.Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_wrong_bytes_are_set_aside_and_fetched_once_more(
    mirror: Mirror, tmp_path: pathlib.Path, name: str
) -> None:
    mirror.fail({"match": name, "flip": 20})
    staged = stage(mirror, tmp_path / "models")
    assert model_manager.check(staged)
    assert len(mirror.asked(f"/{name}")) == 2
    assert (staged / name).read_bytes() == FILES[name]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        pytest.param({"match": "model.safetensors", "flip": 20}, "hash", id="a weight"),
        pytest.param({"match": "config.json", "flip": 20}, "hash", id="a setting"),
    ],
)
def test_wrong_bytes_twice_are_no_model(
    mirror: Mirror, tmp_path: pathlib.Path, fault: dict[str, Any], says: str
) -> None:
    mirror.fail(fault | {"times": 99})
    with pytest.raises(Failure, match="IntegrityError") as caught:
        stage(mirror, tmp_path / "models")
    assert says in caught.value.message
    assert len(mirror.asked(f"/resolve/{COMMIT}/{fault['match']}")) == 2
    assert [path.name for path in tmp_path.rglob("*.bad")] == [f"{fault['match']}.bad"]
    assert not list(tmp_path.rglob("COMPLETE"))


def test_what_was_changed_on_the_disk_speaks_not_against_the_model(
    mirror: Mirror, tmp_path: pathlib.Path
) -> None:
    work = tmp_path / "models/demo--tiny" / f".{COMMIT}.00000000.staging"
    work.mkdir(parents=True)
    (work / "model.safetensors").write_bytes(bytes(400_000))
    (work / "model.safetensors.part").write_bytes(b"x" * 1000)
    mirror.fail({"match": "model.safetensors", "flip": 20_000, "times": 2})
    assert model_manager.check(stage(mirror, tmp_path / "models"))
    ranges = [request["range"] for request in mirror.asked("/model.safetensors")]
    assert ranges == ["bytes=1000-399999", "", ""]


def test_only_what_was_damaged_is_fetched_again(mirror: Mirror, staged: pathlib.Path) -> None:
    flip(staged / "config.json")
    mirror.server.requests.clear()
    assert stage(mirror, staged.parents[1]) == staged
    assert not mirror.asked("/model.safetensors")
    assert model_manager.check(staged)


def test_what_leads_to_other_places_is_not_in_what_is_loaded(
    mirror: Mirror, tmp_path: pathlib.Path
) -> None:
    config = json.loads(FILES["config.json"])
    body = json.dumps(config | {"_name_or_path": "owner/other"}).encode()
    mirror.publish("demo/path", FILES | {"config.json": body})
    client = hub.HubClient(settings.Hub(endpoint=mirror.endpoint))
    staged = model_manager.stage(client, "demo/path", COMMIT, tmp_path, Progress(COMMIT))
    assert json.loads((staged / "config.json").read_text()) == config
    assert model_manager.check(staged)


def test_a_hub_that_answers_with_another_commit_is_not_believed(
    mirror: Mirror, tmp_path: pathlib.Path
) -> None:
    refs = mirror.root / MODEL / "refs.json"
    shutil.copytree(mirror.root / MODEL / COMMIT, mirror.root / MODEL / ("2" * 40))
    refs.write_text(json.dumps({"main": COMMIT, COMMIT: "2" * 40}))
    with pytest.raises(Failure, match="HubUnavailable"):
        stage(mirror, tmp_path / "models")
    assert not mirror.asked("/resolve/")


@pytest.mark.parametrize("kind", ["openvino", "gguf"])
def test_the_other_formats_are_staged_whole(
    mirror: Mirror, tmp_path: pathlib.Path, kind: str
) -> None:
    files = {**CONFIGS, **ir()} if kind == "openvino" else {"tiny-Q8_0.gguf": gguf()}
    mirror.publish("demo/other", {**files, "README.md": b"# words", "evil.py": b"1 / 0"})
    client = hub.HubClient(settings.Hub(endpoint=mirror.endpoint))
    found = model_manager.inspect(client, "demo/other", "main")
    assert (found["formats"], found["kvBytesPerToken"]) == ([kind], 768)
    assert found["totalBytes"] == sum(map(len, files.values()))
    assert found["thinking"]
    staged = model_manager.stage(client, "demo/other", COMMIT, tmp_path, Progress(COMMIT))
    assert model_manager.check(staged) == found["totalBytes"]
    assert {path.name for path in staged.iterdir()} == {*files, "COMPLETE", "manifest.json"}


def test_of_a_gguf_file_only_the_head_is_read_to_inspect_it(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.publish("demo/gguf", {"tiny.gguf": gguf(values=GGUF_VALUES | {"x": "y" * 5000})})
    monkeypatch.setattr(model_manager, "HEAD_BYTES", 1000)
    monkeypatch.setattr(gguf_header, "MAX_HEAD_BYTES", 10_000)
    client = hub.HubClient(settings.Hub(endpoint=mirror.endpoint))
    assert model_manager.inspect(client, "demo/gguf", "main")["weightBytes"] > 400_000
    ranges = [request["range"] for request in mirror.asked("tiny.gguf")]
    assert ranges == ["bytes=0-999", "bytes=1000-9999"]
