"""The form a model is published in, and what both packages make of it: engine and memory."""

import json
import pathlib
from collections.abc import Iterator

import hub_mirror
import pytest
import small_models
import yaml
from pictures import CLASS, SETTINGS, chatmodel, terminated
from signs import inspect, sign_of
from typed_gguf import typed_gguf

from chatmodel_operator import resolution, revision
from chatmodel_operator.api.chatmodelrevision import Inspection
from chatmodel_operator.api.reasons import Reason
from chatmodel_operator.settings import Settings
from chatmodel_runtime import formats, hub, model_manager, settings
from chatmodel_runtime.engines import choosing, openvino_files
from chatmodel_runtime.errors import BadModel
from chatmodel_runtime.progress import Progress

ROOT = pathlib.Path(__file__).parents[2]
FORMS = {
    "safetensors": (small_models.FILES, "Transformers"),
    "openvino": ({**small_models.CONFIGS, **small_models.ir()}, "OpenVINO"),
    "gguf": ({"small.gguf": small_models.gguf()}, "OpenVINO"),
}


def publish(root: pathlib.Path, name: str, files: dict[str, bytes]) -> None:
    folder = root / "demo" / name / small_models.COMMIT
    folder.mkdir(parents=True)
    for file, data in files.items():
        (folder / file).write_bytes(data)
    (folder.parent / "refs.json").write_text(json.dumps({"main": small_models.COMMIT}))


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of a hub that has a model in each form."""
    root = tmp_path_factory.mktemp("hub")
    for kind, (files, _) in FORMS.items():
        publish(root, kind, files)
    return root


@pytest.fixture(scope="module")
def client(mirrored: pathlib.Path) -> Iterator[hub.HubClient]:
    """A client of that hub."""
    with hub_mirror.running(mirrored) as (endpoint, _):
        yield hub.HubClient(settings.Hub(endpoint=endpoint))


@pytest.mark.parametrize("kind", FORMS)
def test_the_operator_chooses_the_engine_that_the_runtime_alone_would_take(
    client: hub.HubClient, kind: str, tmp_path: pathlib.Path
) -> None:
    report = json.loads(json.dumps(model_manager.inspect(client, f"demo/{kind}", "main")))
    found = Inspection.model_validate(report)
    asked = chatmodel(mode="huggingface", model={"id": f"demo/{kind}"}).spec
    assert asked is not None
    source, formats = revision.source_of(asked), tuple(found.formats)
    chosen = resolution.choose_engine(source, formats, CLASS, SETTINGS)
    folder = model_manager.stage(
        client, f"demo/{kind}", found.commit, tmp_path, Progress(found.commit)
    )
    alone, _ = choosing.choose_engine(folder, gpus=0, has_vllm=False)
    assert chosen == alone == FORMS[kind][1]


def test_the_operator_says_why_a_file_is_of_no_type_that_loads(
    client: hub.HubClient, mirrored: pathlib.Path
) -> None:
    publish(mirrored, "types", {"m.gguf": typed_gguf("Q5_K")})
    with pytest.raises(BadModel) as caught:
        model_manager.inspect(client, "demo/types", "main")
    sign = sign_of(inspect(terminated(caught.value.exit_code, caught.value.report())))
    assert sign is not None and sign.is_bad
    assert (sign.reason, sign.message) == (Reason.EngineUnsupported, caught.value.message)
    assert "matrices of Q5_K" in sign.message


@pytest.mark.parametrize("kind", ["openvino", "gguf"])
def test_the_weights_of_openvino_count_as_often_to_both(
    client: hub.HubClient, kind: str, tmp_path: pathlib.Path
) -> None:
    found = Inspection.model_validate(model_manager.inspect(client, f"demo/{kind}", "main"))
    twice = found.model_copy(update={"weight_bytes": 2 * found.weight_bytes})
    asked = chatmodel(mode="huggingface", model={"id": f"demo/{kind}"}).spec
    assert asked is not None
    needed = [resolution.required_memory(i, revision.source_of(asked)) for i in (found, twice)]
    folder = model_manager.stage(
        client, f"demo/{kind}", found.commit, tmp_path, Progress(found.commit)
    )
    loaded = openvino_files.find(folder)
    one = loaded.path if loaded.path.is_file() else loaded.path / "openvino_model.bin"
    counted = loaded.weights // one.stat().st_size
    assert needed[1] - needed[0] == counted * found.weight_bytes
    assert found.kv_bytes_per_token == loaded.kv_bytes


@pytest.mark.fault("D6")
def test_a_branch_that_moves_changes_nothing_of_what_was_resolved(tmp_path: pathlib.Path) -> None:
    moved, folder = "2" * 40, tmp_path / "hub/demo/moving"
    for commit, context in ((small_models.COMMIT, 64), (moved, 128)):
        (folder / commit).mkdir(parents=True)
        for name, data in small_models.FILES.items():
            (folder / commit / name).write_bytes(data)
        config = json.loads(small_models.FILES["config.json"]) | {
            "max_position_embeddings": context
        }
        (folder / commit / "config.json").write_text(json.dumps(config))
    with hub_mirror.running(tmp_path / "hub") as (endpoint, _):
        client = hub.HubClient(settings.Hub(endpoint=endpoint))
        (folder / "refs.json").write_text(json.dumps({"main": small_models.COMMIT}))
        resolved = model_manager.inspect(client, "demo/moving", "main")["commit"]
        (folder / "refs.json").write_text(json.dumps({"main": moved}))
        staged = model_manager.stage(
            client, "demo/moving", resolved, tmp_path / "models", Progress(resolved)
        )
        later = model_manager.inspect(client, "demo/moving", "main")["commit"]
    assert (resolved, later) == (small_models.COMMIT, moved)
    assert json.loads((staged / "config.json").read_text())["max_position_embeddings"] == 64


def test_the_shipped_settings_name_an_image_for_every_engine_that_was_run() -> None:
    shipped = yaml.safe_load_all((ROOT / "deploy/install.yaml").read_text())
    (text,) = (d["data"]["settings.yaml"] for d in shipped if d["kind"] == "ConfigMap")
    images = Settings.model_validate(yaml.safe_load(text)).images
    named = {engine for engine in resolution.FORMATS if images.of(engine) is not None}
    assert named == {"Transformers", "OpenVINO"}
    assert images.of("OpenVINO") == images.of("Transformers")


def test_every_format_of_an_inspection_has_an_engine() -> None:
    known = {kind for kinds in resolution.FORMATS.values() for kind in kinds}
    assert known == set(formats.PREFERENCE) == set(FORMS)
