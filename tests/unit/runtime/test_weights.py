"""Heads of weight files that lie are refused before a loader; heads that are true are not."""

import io
import json
import pathlib
from typing import Any

import pytest
from small_models import COMMIT, GGUF_VALUES, gguf, ir, safetensors

from chatmodel_runtime import gguf_header, weights
from chatmodel_runtime.errors import BadModel


def check(folder: pathlib.Path, name: str, body: bytes) -> None:
    (folder / name).write_bytes(body)
    weights.check(folder / name, name)


def refused(folder: pathlib.Path, name: str, body: bytes) -> str:
    with pytest.raises(BadModel) as caught:
        check(folder, name, body)
    return caught.value.reason


def head(text: bytes | str, data: int = 0) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(8, "little") + raw + bytes(data)


def tensors(data: int, **entries: tuple[str, list[Any], list[Any]]) -> bytes:
    body = {
        name: {"dtype": dtype, "shape": shape, "data_offsets": place}
        for name, (dtype, shape, place) in entries.items()
    }
    return head(json.dumps(body), data)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(safetensors(1000), id="one tensor"),
        pytest.param(safetensors(1000, __metadata__={"format": "pt"}), id="with metadata"),
        pytest.param(
            tensors(12, b=("F16", [2, 2], [4, 12]), a=("F32", [], [0, 4])), id="in another order"
        ),
        pytest.param(tensors(0, a=("BF16", [0, 5], [0, 0])), id="an empty tensor"),
        pytest.param(tensors(2, a=("F4", [4], [0, 2])), id="four bits"),
    ],
)
def test_a_true_head_is_taken(tmp_path: pathlib.Path, body: bytes) -> None:
    check(tmp_path, "model.safetensors", body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"1234567", id="less than a length"),
        pytest.param((2**63).to_bytes(8, "little") + b"{}", id="a length beyond everything"),
        pytest.param((100).to_bytes(8, "little") + b"{}", id="a length beyond the file"),
        pytest.param(
            (1 << 25).to_bytes(8, "little") + bytes(1 << 25), id="longer than a head can be"
        ),
        pytest.param(b"\x80\x02cos\nsystem\n(S'id'\ntR.", id="a pickle"),
        pytest.param(head("[]"), id="a list"),
        pytest.param(head(b"\xff{}"), id="no letters"),
        pytest.param(head("[" * 100_000), id="nested without an end"),
        pytest.param(head('{"a": 1}'), id="a tensor that is a number"),
        pytest.param(head('{"a": {}}'), id="a tensor of nothing"),
        pytest.param(
            head('{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"a":{}}', 1), id="twice"
        ),
        pytest.param(tensors(4, a=("F32", [1], [0, 4, 8])), id="three ends"),
        pytest.param(tensors(4, a=("EVIL", [1], [0, 4])), id="an unknown type"),
        pytest.param(tensors(4, a=("U8", [8], [0, 8])), id="beyond the file"),
        pytest.param(tensors(8, a=("U8", [4], [0, 4])), id="bytes that belong to none"),
        pytest.param(
            tensors(6, a=("U8", [4], [0, 4]), b=("U8", [4], [2, 6])), id="two that overlap"
        ),
        pytest.param(
            tensors(8, a=("U8", [4], [0, 4]), b=("U8", [3], [5, 8])), id="a hole between two"
        ),
        pytest.param(tensors(4, a=("F32", [2], [0, 4])), id="shorter than its shape"),
        pytest.param(tensors(4, a=("U8", [-4], [0, -4])), id="less than nothing"),
        pytest.param(tensors(4, a=("U8", [2**40, 2**40], [0, 4])), id="a shape beyond everything"),
        pytest.param(tensors(4, a=("U8", [1] * 99 + [4], [0, 4])), id="a hundred dimensions"),
        pytest.param(tensors(1, a=("U8", [True], [0, 1])), id="a truth for a number"),
        pytest.param(tensors(1, a=("U8", [1.0], [0, 1])), id="a fraction for a number"),
    ],
)
def test_a_head_that_lies_is_unsafe(tmp_path: pathlib.Path, body: bytes) -> None:
    assert refused(tmp_path, "model.safetensors", body) == "UnsafeModelContent"


def test_gguf_tells_template_and_shape() -> None:
    body = gguf(1000)
    found = gguf_header.read(io.BytesIO(body), len(body), "a.gguf")
    assert found.chat_template() == "{{ x }}<think>"
    assert found.shape() == {
        "num_hidden_layers": 2,
        "hidden_size": 96,
        "num_attention_heads": 4,
    }


def test_a_head_that_is_not_there_yet_says_so() -> None:
    body = gguf(1000)
    with pytest.raises(gguf_header.EndsEarly):
        gguf_header.read(io.BytesIO(body[:100]), len(body), "a.gguf")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "UnsafeModelContent", id="nothing"),
        pytest.param(b"GGML" + gguf()[4:], "UnsafeModelContent", id="another magic"),
        pytest.param(b"GGUF\x09\0\0\0" + bytes(99), "UnsafeModelContent", id="another version"),
        pytest.param(gguf()[:100], "UnsafeModelContent", id="cut inside its head"),
        pytest.param(gguf()[:-1], "UnsafeModelContent", id="a tensor beyond the file"),
        pytest.param(gguf(begin=2**63), "UnsafeModelContent", id="a tensor beyond everything"),
        pytest.param(gguf(begin=1), "UnsafeModelContent", id="a tensor out of line"),
        pytest.param(gguf(1000, tensors=2), "UnsafeModelContent", id="two that overlap"),
        pytest.param(gguf(kind=77), "EngineUnsupported", id="an unknown kind"),
        pytest.param(
            gguf(values=GGUF_VALUES | {"general.architecture": "gemma3"}),
            "EngineUnsupported",
            id="a family nobody loads",
        ),
        pytest.param(
            gguf(values=GGUF_VALUES | {"general.architecture": 7}),
            "EngineUnsupported",
            id="a family that is a number",
        ),
        pytest.param(
            gguf(values=GGUF_VALUES | {"general.alignment": 7}), "UnsafeModelContent", id="crooked"
        ),
        pytest.param(
            b"GGUF\x03\0\0\0" + b"\xff" * 16, "UnsafeModelContent", id="more than can be counted"
        ),
        pytest.param(
            b"GGUF\x03\0\0\0" + bytes(8) + b"\1" + bytes(7) + b"\1" + bytes(7) + b"a\x63\0\0\0",
            "UnsafeModelContent",
            id="a value of no kind",
        ),
    ],
)
def test_a_gguf_head_that_lies_is_refused(tmp_path: pathlib.Path, body: bytes, reason: str) -> None:
    assert refused(tmp_path, "a.gguf", body) == reason


@pytest.mark.parametrize("at", range(8, 300, 7))
def test_no_byte_of_a_gguf_head_crashes_the_reader(tmp_path: pathlib.Path, at: int) -> None:
    body = bytearray(gguf(1000))
    body[at] ^= 0xFF
    try:
        check(tmp_path, "a.gguf", bytes(body))
    except BadModel as failure:
        assert failure.reason in ("UnsafeModelContent", "EngineUnsupported")


def put(folder: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
    for name, body in files.items():
        (folder / name).write_bytes(body)
    return folder / "openvino_model.xml"


def test_an_ir_is_taken(tmp_path: pathlib.Path) -> None:
    weights.check(put(tmp_path, ir()), "openvino_model.xml")


ENTITY = '<!DOCTYPE net [<!ENTITY e SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(ir(before=ENTITY), id="an entity"),
        pytest.param(ir(offset=1), id="a constant beyond the file"),
        pytest.param(ir(offset=-1), id="a constant before it"),
        pytest.param(ir(offset=10**30), id="a constant beyond everything"),
        pytest.param({**ir(), "openvino_model.xml": b"\x80\x02cos\n"}, id="no XML"),
        pytest.param({**ir(), "openvino_model.xml": b""}, id="nothing"),
        pytest.param(
            {**ir(), "openvino_model.xml": b"<a>" * 99 + b"</a>" * 99}, id="nested too deep"
        ),
    ],
)
def test_an_ir_that_lies_is_unsafe(tmp_path: pathlib.Path, files: dict[str, bytes]) -> None:
    path = put(tmp_path, files)
    with pytest.raises(BadModel, match="UnsafeModelContent"):
        weights.check(path, path.name)


def test_what_the_library_itself_writes_is_taken(tmp_path: pathlib.Path) -> None:
    library = pytest.importorskip("safetensors")
    numpy = pytest.importorskip("numpy")
    from safetensors.numpy import save

    kinds = ("float16", "float32", "float64", "int8", "uint8", "int64", "bool")
    body = save({kind: numpy.ones((3, 5), kind) for kind in kinds}, {"commit": COMMIT})
    assert library
    check(tmp_path, "model.safetensors", body)


def test_an_ir_that_the_library_itself_writes_is_taken(tmp_path: pathlib.Path) -> None:
    openvino = pytest.importorskip("openvino")
    numpy = pytest.importorskip("numpy")
    from openvino import opset13

    put_in = opset13.parameter([1, 4], numpy.float32)
    constant = opset13.constant(numpy.ones((4, 4), numpy.float32))
    model = openvino.Model([opset13.matmul(put_in, constant, False, False)], [put_in], "m")
    openvino.save_model(model, tmp_path / "openvino_model.xml")
    assert (tmp_path / "openvino_model.bin").stat().st_size > 0
    weights.check(tmp_path / "openvino_model.xml", "openvino_model.xml")
