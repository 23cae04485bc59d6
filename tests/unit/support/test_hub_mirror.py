"""The hub mirror, asked by the library it is made for, and by a plain client for the details."""

import base64
import hashlib
import http.client
import json
import pathlib
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import hub_mirror
import huggingface_hub
import pytest
from huggingface_hub import errors

MODEL = "demo/tiny"
CONFIG = b'{"model_type": "qwen3"}'
HEAD = b"\x08\0\0\0\0\0\0\0{}      "
LARGE = 3 * 1024 * 1024
FIRST, SECOND = "1" * 40, "2" * 40


def write_model(root: pathlib.Path, model_id: str, **more: Any) -> None:
    for commit, config in ((FIRST, CONFIG), (SECOND, CONFIG + b" ")):
        folder = root / model_id / commit
        folder.mkdir(parents=True)
        (folder / "config.json").write_bytes(config)
        body = {"size": LARGE, "head": base64.b64encode(HEAD).decode()}
        (folder / "model.safetensors.synthetic").write_text(json.dumps(body))
    refs = {"main": SECOND, "v1": FIRST, **more}
    (root / model_id / "refs.json").write_text(json.dumps(refs))


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[pathlib.Path, str, hub_mirror.MirrorServer]]:
    root = tmp_path_factory.mktemp("mirror") / "hub"
    write_model(root, MODEL)
    write_model(root, "demo/moving")
    write_model(root, "demo/gated", gated=True)
    with hub_mirror.running(root) as (endpoint, server):
        yield root, endpoint, server


@pytest.fixture
def root(running: tuple[pathlib.Path, str, hub_mirror.MirrorServer]) -> pathlib.Path:
    return running[0]


@pytest.fixture
def endpoint(running: tuple[pathlib.Path, str, hub_mirror.MirrorServer]) -> str:
    _, endpoint, server = running
    server.faults, server.requests = [], []
    return endpoint


@pytest.fixture
def api(endpoint: str) -> huggingface_hub.HfApi:
    return huggingface_hub.HfApi(endpoint=endpoint, token="hf_abc")


def ask(
    endpoint: str, path: str, method: str = "GET", body: Any = None, **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(endpoint).netloc, timeout=10)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def fetch(endpoint: str, name: str, folder: pathlib.Path, model_id: str = MODEL) -> pathlib.Path:
    options: dict[str, Any] = {"endpoint": endpoint, "local_dir": folder, "token": "hf_abc"}
    return pathlib.Path(huggingface_hub.hf_hub_download(model_id, name, **options))


def test_a_branch_a_tag_and_a_commit_are_resolved(api: huggingface_hub.HfApi) -> None:
    shas = [api.model_info(MODEL, revision=name).sha for name in ("main", "v1", FIRST)]
    assert shas == [SECOND, FIRST, FIRST]


def test_sizes_and_hashes_come_before_the_first_byte(
    endpoint: str, api: huggingface_hub.HfApi, tmp_path: pathlib.Path
) -> None:
    info = api.model_info(MODEL, revision="v1", files_metadata=True)
    seen = {s.rfilename: (s.size, s.lfs.sha256 if s.lfs else None) for s in info.siblings or []}
    weights = fetch(endpoint, "model.safetensors", tmp_path).read_bytes()
    assert weights == HEAD + bytes(LARGE - len(HEAD))
    digest = hashlib.sha256(weights).hexdigest()
    assert seen == {"config.json": (len(CONFIG), None), "model.safetensors": (LARGE, digest)}


def test_a_whole_snapshot_is_downloaded(endpoint: str, tmp_path: pathlib.Path) -> None:
    options: dict[str, Any] = {"endpoint": endpoint, "local_dir": tmp_path / "to"}
    folder = pathlib.Path(huggingface_hub.snapshot_download(MODEL, revision=FIRST, **options))
    assert (folder / "config.json").read_bytes() == CONFIG
    assert (folder / "model.safetensors").stat().st_size == LARGE


@pytest.mark.parametrize(
    ("model", "revision", "error"),
    [
        pytest.param("demo/none", "main", errors.RepositoryNotFoundError, id="no such model"),
        pytest.param(MODEL, "none", errors.RevisionNotFoundError, id="no such revision"),
        pytest.param("demo/gated", "main", errors.GatedRepoError, id="not let in"),
    ],
)
def test_what_cannot_be_had_is_named(
    api: huggingface_hub.HfApi, model: str, revision: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        api.model_info(model, revision=revision)


def test_a_file_that_is_not_there_is_named(endpoint: str, tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.RemoteEntryNotFoundError):
        fetch(endpoint, "none.json", tmp_path)


def test_requests_are_recorded_without_their_token(
    endpoint: str, api: huggingface_hub.HfApi
) -> None:
    api.model_info(MODEL, revision="v1")
    ask(endpoint, "/nowhere")
    _, body = ask(endpoint, "/_admin/requests")
    assert [(r["path"], r["token"]) for r in json.loads(body)] == [
        (f"/api/models/{MODEL}/revision/v1", True),
        ("/nowhere", False),
    ]
    assert b"hf_abc" not in body


def test_a_fault_is_used_up_after_its_count(endpoint: str, api: huggingface_hub.HfApi) -> None:
    fault = {"match": "/api/models/", "status": 429, "headers": {"Retry-After": "7"}, "times": 2}
    ask(endpoint, "/_admin/faults", "POST", [fault])
    for _ in range(2):
        with pytest.raises(errors.HfHubHTTPError) as caught:
            api.model_info(MODEL, revision="main")
        assert caught.value.response.status_code == 429
        assert caught.value.response.headers["Retry-After"] == "7"
    assert api.model_info(MODEL, revision="main").sha == SECOND


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_a_fault_hits_only_what_it_matches(endpoint: str, status: int) -> None:
    ask(endpoint, "/_admin/faults", "POST", [{"match": "config.json", "status": status}])
    assert ask(endpoint, f"/{MODEL}/resolve/main/model.safetensors", "HEAD")[0].status == 200
    assert ask(endpoint, f"/{MODEL}/resolve/main/config.json")[0].status == status
    assert ask(endpoint, f"/{MODEL}/resolve/main/config.json")[0].status == 200


def test_a_body_can_be_cut(endpoint: str) -> None:
    ask(endpoint, "/_admin/faults", "POST", [{"match": "model.safetensors", "cut": 100_000}])
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(endpoint, f"/{MODEL}/resolve/main/model.safetensors")
    assert len(caught.value.partial) == 100_000


def test_a_download_that_was_cut_is_gone_on_with(endpoint: str, tmp_path: pathlib.Path) -> None:
    fault = {"match": "model.safetensors", "cut": 100_000}
    ask(endpoint, "/_admin/faults", "POST", [fault])
    path = fetch(endpoint, "model.safetensors", tmp_path)
    assert path.read_bytes() == HEAD + bytes(LARGE - len(HEAD))
    _, asked = ask(endpoint, "/_admin/requests")
    assert [r["method"] for r in json.loads(asked)] == ["HEAD", "GET", "GET"]


def test_a_body_can_be_slow(endpoint: str) -> None:
    fault = {"match": "model.safetensors", "seconds_per_mib": 0.1}
    ask(endpoint, "/_admin/faults", "POST", [fault])
    started = time.monotonic()
    _, body = ask(endpoint, f"/{MODEL}/resolve/main/model.safetensors")
    assert len(body) == LARGE
    assert time.monotonic() - started >= 0.2  # a pause between the three parts


@pytest.mark.parametrize(
    ("asked", "content_range", "body"),
    [
        pytest.param("bytes=2-4", "bytes 2-4/23", CONFIG[2:5], id="a part"),
        pytest.param("bytes=20-", "bytes 20-22/23", CONFIG[20:], id="from somewhere on"),
        pytest.param("bytes=10-99", "bytes 10-22/23", CONFIG[10:], id="beyond the end"),
    ],
)
def test_parts_of_a_file_are_sent(
    endpoint: str, asked: str, content_range: str, body: bytes
) -> None:
    response, sent = ask(endpoint, f"/{MODEL}/resolve/v1/config.json", Range=asked)
    assert (response.status, response.headers["Content-Range"]) == (206, content_range)
    assert sent == body


def test_a_large_file_says_its_commit_size_and_hash(endpoint: str) -> None:
    response, body = ask(endpoint, f"/{MODEL}/resolve/main/model.safetensors", "HEAD")
    digest = hashlib.sha256(HEAD + bytes(LARGE - len(HEAD))).hexdigest()
    assert body == b""
    assert response.headers["X-Repo-Commit"] == SECOND
    assert response.headers["X-Linked-Size"] == response.headers["Content-Length"] == str(LARGE)
    assert response.headers["X-Linked-Etag"] == response.headers["ETag"] == f'"{digest}"'
    assert response.headers["Accept-Ranges"] == "bytes"


def test_a_synthetic_file_is_read_across_the_end_of_its_head(endpoint: str) -> None:
    _, body = ask(endpoint, f"/{MODEL}/resolve/main/model.safetensors", Range="bytes=14-19")
    assert body == b"  " + bytes(4)


@pytest.mark.parametrize(
    "path",
    ["/%2e%2e/%2e%2e/resolve/main/secret", f"/{MODEL}/resolve/main/%2e%2e/refs.json"],
)
def test_no_file_outside_a_commit_is_served(root: pathlib.Path, endpoint: str, path: str) -> None:
    (root.parent / "secret").write_text("secret")
    response, body = ask(endpoint, path)
    assert response.status == 404
    assert b"secret" not in body and FIRST.encode() not in body


def test_a_branch_that_moved_on_disk_resolves_to_the_other_commit(
    root: pathlib.Path, api: huggingface_hub.HfApi
) -> None:
    assert api.model_info("demo/moving", revision="main").sha == SECOND
    (root / "demo/moving/refs.json").write_text(json.dumps({"main": FIRST}))
    assert api.model_info("demo/moving", revision="main").sha == FIRST
