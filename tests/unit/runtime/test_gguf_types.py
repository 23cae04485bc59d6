"""Types of tensors: what is refused by the head of a GGUF file is what OpenVINO does not load."""

import io
import pathlib
from typing import Any, Protocol

import gguf
import pytest
from small_models import FILES
from typed_gguf import BIAS, EMBEDDINGS, EXTRA, NORMS, typed_gguf

from chatmodel_runtime import gguf_header, gguf_types, hub, model_manager, settings
from chatmodel_runtime.engines import openvino_files, openvino_worker
from chatmodel_runtime.errors import BadModel

EVERY = {kind.name: kind.value for kind in gguf.GGMLQuantizationType}
LOADED = "F16, Q8_0, Q6_K, Q4_K, Q4_0, Q4_1"


class Mirror(Protocol):
    """The fixture of conftest.py, as far as it is used here."""

    endpoint: str

    def publish(self, model_id: str, files: dict[str, bytes], **refs: Any) -> None: ...
    def asked(self, part: str) -> list[dict[str, Any]]: ...


def refusal(body: bytes) -> str:
    """Return what the head's reader says against a file, or nothing."""
    try:
        gguf_header.read(io.BytesIO(body), len(body), "a.gguf")
    except gguf_header.WrongTypes as wrong:
        return wrong.message
    return ""


def is_loaded(body: bytes, folder: pathlib.Path) -> bool:
    """Say whether the library itself builds a model of a file, and makes a token."""
    (folder / "a.gguf").write_bytes(body)
    options = {"model": str(folder / "a.gguf"), "blocks": 16, "active": 1, "batch": 64}
    try:
        openvino_worker.Worker(options | {"threads": 1, "ends": [0]}).warm_up()
    except (RuntimeError, IndexError):  # what it raises of such files
        return False
    return True


def test_ggmls_types_are_known_by_their_names() -> None:
    assert {number: name for name, number in EVERY.items()} == gguf_types.NAMES


def test_of_every_type_that_may_be_loaded_the_size_is_known() -> None:
    numbers = {EVERY[name] for use in gguf_types.USES for name in use[2]}
    sizes = {number: gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(number)] for number in numbers}
    assert sizes == gguf_header.BLOCKS


@pytest.mark.parametrize("kind", EVERY)
def test_matrices_of_a_type_are_refused_where_openvino_does_not_load_them(
    kind: str, tmp_path: pathlib.Path
) -> None:
    body = typed_gguf(kind)
    said = refusal(body)
    assert is_loaded(body, tmp_path) == (not said) == (kind in LOADED.split(", "))
    if said:
        assert said == f"a.gguf has matrices of {kind}; OpenVINO loads {LOADED}"


@pytest.mark.parametrize("name", [EMBEDDINGS, BIAS, EXTRA, NORMS[1], "output.weight"])
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q2_K", "Q5_K", "Q6_K", "Q5_0", "I8"])
def test_every_use_of_a_tensor_has_types_of_its_own(
    name: str, kind: str, tmp_path: pathlib.Path
) -> None:
    body = typed_gguf("Q8_0", {name: kind})
    if name == BIAS and kind in ("Q2_K", "I8"):
        assert refusal(body)  # it loads them, and nobody writes such a file
    elif name == NORMS[1] and kind == "F16":
        assert refusal(body)  # of ones alone it loads them
    else:
        assert is_loaded(body, tmp_path) == (not refusal(body))


@pytest.mark.parametrize(
    ("kind", "file_type", "says"),
    [
        pytest.param("F16", 1, "", id="16 bits"),
        pytest.param("F16", 7, "", id="16 bits that are called 8"),
        pytest.param("Q8_0", 1, "has matrices of Q8_0; OpenVINO loads none of", id="8 called 16"),
        pytest.param("Q4_K", 0, "has matrices of Q4_K; OpenVINO loads none of", id="4 called 32"),
        pytest.param("Q8_0", 17, "", id="8 bits that are called 5"),
        pytest.param("F16", None, "does not say its general.file_type", id="no word"),
    ],
)
def test_what_a_file_calls_itself_matters_to_openvino(
    kind: str, file_type: int | None, says: str, tmp_path: pathlib.Path
) -> None:
    body = typed_gguf(kind, file_type=file_type)
    assert is_loaded(body, tmp_path) == (not says)
    assert says in refusal(body) and bool(says) == bool(refusal(body))


def test_a_file_of_a_published_mixture_says_all_that_is_wrong_and_only_that() -> None:
    mixed = {"blk.0.attn_v.weight": "Q6_K", "blk.0.ffn_down.weight": "Q5_0", EMBEDDINGS: "Q5_K"}
    assert refusal(typed_gguf("Q5_K", mixed)) == (
        f"a.gguf has matrices of Q5_0, Q5_K; OpenVINO loads {LOADED}"
    )
    assert (
        refusal(typed_gguf("Q4_K", {"blk.0.attn_v.weight": "Q6_K", "output.weight": "Q6_K"})) == ""
    )


def test_experts_are_no_model_that_openvino_builds() -> None:
    body = typed_gguf(values={"llama.expert_count": 8})
    with pytest.raises(BadModel, match=r"EngineUnsupported: .* has experts"):
        gguf_header.read(io.BytesIO(body), len(body), "a.gguf")


def test_a_row_that_ends_inside_a_block_is_a_lie(tmp_path: pathlib.Path) -> None:
    body = typed_gguf("Q6_K")
    at = body.index(b"blk.0.attn_q.weight") + len(b"blk.0.attn_q.weight") + 4
    rows = (128).to_bytes(8, "little") + (512).to_bytes(8, "little")
    crooked = body[:at] + rows + body[at + 16 :]
    with pytest.raises(BadModel, match=r"UnsafeModelContent: .* has a tensor that ends inside"):
        gguf_header.read(io.BytesIO(crooked), len(crooked), "a.gguf")


def test_serving_says_of_a_file_on_disk_what_inspection_says(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.gguf").write_bytes(typed_gguf("Q5_K"))
    with pytest.raises(BadModel) as caught:
        openvino_files.find(tmp_path)
    assert caught.value.reason == "EngineUnsupported"
    assert caught.value.message == refusal((tmp_path / "a.gguf").read_bytes())


ELSE = "name a model that has a file named F16, Q8_0, Q4_K_M, Q4_0, Q4_1"


@pytest.mark.parametrize(
    ("quantization", "offered", "advice"),
    [
        pytest.param("None", {}, ELSE, id="alone"),
        pytest.param("Int4", {}, ELSE, id="alone, and asked for"),
        pytest.param(
            "Int4",
            {"m-Q8_0.gguf": b"", "m-F16.gguf": b""},
            "set spec.quantization to None or Int8",
            id="beside others",
        ),
        pytest.param("Int4", FILES, "set spec.quantization to None", id="beside safetensors"),
    ],
)
def test_inspection_refuses_by_the_head_alone_and_says_what_helps(
    mirror: Mirror, quantization: str, offered: dict[str, bytes], advice: str
) -> None:
    body = typed_gguf("Q5_0") + bytes(model_manager.HEAD_BYTES)
    mirror.publish("demo/types", {"m-Q4_K_M.gguf": body, **offered})
    client = hub.HubClient(settings.Hub(endpoint=mirror.endpoint))
    with pytest.raises(BadModel) as caught:
        model_manager.inspect(client, "demo/types", "main", quantization)
    assert caught.value.reason == "EngineUnsupported"
    assert caught.value.message == (
        f"m-Q4_K_M.gguf has matrices of Q5_0; OpenVINO loads {LOADED}; {advice}"
    )
    (asked,) = mirror.asked("/m-Q4_K_M.gguf")
    assert asked["range"] == f"bytes=0-{model_manager.HEAD_BYTES - 1}"


@pytest.mark.parametrize("kind", gguf_types.MATRICES)
def test_inspection_takes_each_type_that_loads(mirror: Mirror, kind: str) -> None:
    mirror.publish("demo/types", {"m.gguf": typed_gguf(kind)})
    client = hub.HubClient(settings.Hub(endpoint=mirror.endpoint))
    assert model_manager.inspect(client, "demo/types", "main")["files"] == ["m.gguf"]
