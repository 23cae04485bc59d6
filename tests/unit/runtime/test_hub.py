"""Inspecting and fetching, against a mirror over HTTP."""

import json
import pathlib
import time
from typing import Any, Protocol

import pytest
from small_models import COMMIT, CONFIGS, FILES

from chatmodel_runtime import hub, model_manager, settings
from chatmodel_runtime.errors import Failure
from chatmodel_runtime.progress import Progress

MODEL = "demo/tiny"


class Mirror(Protocol):
    """The fixture of conftest.py, as far as it is used here."""

    endpoint: str

    def publish(self, model_id: str, files: dict[str, bytes], **refs: Any) -> None: ...
    def fail(self, *faults: dict[str, Any]) -> None: ...
    def asked(self, part: str) -> list[dict[str, Any]]: ...


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the library's back-off take no time; what it does is the library's."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.005)))


def client(mirror: Mirror, token: str | None = None) -> hub.HubClient:
    return hub.HubClient(settings.Hub(endpoint=mirror.endpoint), token)


def inspect(mirror: Mirror, model_id: str = MODEL, revision: str = "main") -> dict[str, Any]:
    return model_manager.inspect(client(mirror), model_id, revision)


def stage(mirror: Mirror, root: pathlib.Path, model_id: str = MODEL) -> pathlib.Path:
    progress = Progress(COMMIT)
    return model_manager.stage(client(mirror), model_id, COMMIT, root, progress)


def refused(error: pytest.ExceptionInfo[Failure]) -> tuple[int, str]:
    return error.value.exit_code, error.value.reason


@pytest.mark.parametrize("revision", ["main", "v1", COMMIT])
def test_a_branch_tag_or_commit_becomes_a_commit(mirror: Mirror, revision: str) -> None:
    mirror.publish("demo/tagged", FILES, v1=COMMIT)
    assert inspect(mirror, "demo/tagged", revision) == {
        "commit": COMMIT,
        "files": [*CONFIGS, "model.safetensors"],
        "totalBytes": sum(len(body) for body in FILES.values()),
        "weightBytes": 400_000,
        "kvBytesPerToken": 768,
        "formats": ["safetensors"],
        "chatTemplate": True,
        "thinking": True,
    }


def test_inspection_fetches_no_weights(mirror: Mirror) -> None:
    inspect(mirror)
    assert mirror.asked("config.json") and not mirror.asked("safetensors")


def test_a_template_of_its_own_file_counts(mirror: Mirror) -> None:
    files = FILES | {"tokenizer_config.json": b"{}", "chat_template.jinja": b"{{ x }}"}
    mirror.publish("demo/jinja", files)
    assert inspect(mirror, "demo/jinja")["thinking"] is False


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"tokenizer_config.json": b"{}"}, "ChatTemplateMissing", id="no template"),
        pytest.param(
            {"config.json": b'{"auto_map": {}}'}, "UnsafeModelContent", id="asks for code"
        ),
        pytest.param(
            {"generation_config.json": b'{"x": {"trust_remote_code": 1}}'},
            "UnsafeModelContent",
            id="asks for code elsewhere",
        ),
        pytest.param({"config.json": b"{"}, "ModelLoadFailed", id="no JSON"),
    ],
)
def test_a_bad_model_is_refused_before_its_weights(
    mirror: Mirror, change: dict[str, bytes], reason: str
) -> None:
    mirror.publish("demo/bad", FILES | change)
    with pytest.raises(Failure) as caught:
        inspect(mirror, "demo/bad")
    assert refused(caught) == (65, reason)
    assert not mirror.asked("safetensors")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"config.json": b"[" * 100_000}, id="nested without end"),
        pytest.param({"tokenizer_config.json": b"[1]"}, id="a list for an object"),
    ],
)
def test_a_hostile_configuration_is_a_bad_model(mirror: Mirror, change: dict[str, bytes]) -> None:
    mirror.publish("demo/hostile", FILES | change)
    code = None
    try:
        inspect(mirror, "demo/hostile")
    except Failure as failure:
        code = failure.exit_code
    assert code == 65


@pytest.mark.parametrize("shard", ["../../evil.safetensors", "/models/evil.safetensors"])
def test_an_index_that_points_out_of_its_folder_is_unsafe(mirror: Mirror, shard: str) -> None:
    index = json.dumps({"weight_map": {"a": shard}}).encode()
    shards = {"model-00001-of-00001.safetensors": b"", "model.safetensors.index.json": index}
    mirror.publish("demo/index", CONFIGS | shards)
    with pytest.raises(Failure) as caught:
        inspect(mirror, "demo/index")
    assert refused(caught) == (65, "UnsafeModelContent")


@pytest.mark.parametrize(
    ("model_id", "revision", "code", "reason"),
    [
        pytest.param("demo/absent", "main", 65, "ModelNotFound", id="no such model"),
        pytest.param("demo/gated", "main", 75, "ModelGated", id="a gated model"),
        pytest.param(MODEL, "absent", 65, "RevisionNotFound", id="no such branch"),
        pytest.param(MODEL, "2" * 40, 65, "RevisionNotFound", id="no such commit"),
    ],
)
def test_what_the_hub_refuses_has_its_reason(
    mirror: Mirror, model_id: str, revision: str, code: int, reason: str
) -> None:
    mirror.publish("demo/gated", FILES, gated=True)
    with pytest.raises(Failure) as caught:
        inspect(mirror, model_id, revision)
    assert refused(caught) == (code, reason)


def test_a_commit_that_would_lead_out_of_the_volume_is_none(mirror: Mirror) -> None:
    mirror.publish("demo/way", FILES, way="..")
    with pytest.raises(Failure) as caught:
        inspect(mirror, "demo/way", "way")
    assert refused(caught) == (75, "HubUnavailable")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("status", "reason"),
    [(403, "HubUnauthorizedOrNotFound"), (429, "HubUnavailable"), (503, "HubUnavailable")],
)
def test_a_status_of_the_hub_is_tried_again_later(mirror: Mirror, status: int, reason: str) -> None:
    mirror.fail({"match": "/revision/", "status": status, "times": 99})
    with pytest.raises(Failure) as caught:
        inspect(mirror)
    assert refused(caught) == (75, reason)
    assert str(status) in caught.value.message


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_hub_is_asked_again_when_it_says(mirror: Mirror, status: int) -> None:
    headers = {"Retry-After": "0"}
    mirror.fail({"match": "/revision/", "status": status, "times": 1, "headers": headers})
    assert inspect(mirror)["commit"] == COMMIT


def test_an_id_that_the_hub_can_never_have_is_not_tried_again(mirror: Mirror) -> None:
    with pytest.raises(Failure) as caught:
        inspect(mirror, "demo/a--b")
    assert caught.value.exit_code in (64, 65)


@pytest.mark.usefixtures("hasty")
def test_a_hub_that_does_not_listen_is_unavailable() -> None:
    nowhere = hub.HubClient(settings.Hub(endpoint="http://127.0.0.1:9"))
    with pytest.raises(Failure) as caught:
        model_manager.inspect(nowhere, MODEL, "main")
    assert refused(caught) == (75, "HubUnavailable")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("status", [429, 503])
def test_a_file_that_fails_once_is_fetched_again(
    mirror: Mirror, tmp_path: pathlib.Path, status: int
) -> None:
    mirror.fail({"match": "model.safetensors", "status": status, "headers": {"Retry-After": "0"}})
    assert model_manager.check(stage(mirror, tmp_path / "models"))


@pytest.mark.usefixtures("hasty")
def test_a_hub_that_goes_away_while_fetching_condemns_no_model(
    mirror: Mirror, tmp_path: pathlib.Path
) -> None:
    mirror.fail({"match": "model.safetensors", "status": 503, "times": 99})
    with pytest.raises(Failure) as caught:
        stage(mirror, tmp_path / "models")
    assert refused(caught) == (75, "HubUnavailable")
