"""What OpenVINO loads from a model's folder, and what that takes: heads and sizes, no library.

Called by `engines.openvino`. A published IR (all six files) or exactly one `.gguf`; nothing is
converted.
"""

import dataclasses
import json
import pathlib
from typing import Any

from chatmodel_runtime import gguf_header
from chatmodel_runtime.errors import BadModel

IR = tuple(
    f"openvino_{part}.{kind}"
    for part in ("model", "tokenizer", "detokenizer")
    for kind in ("xml", "bin")
)
# Measured: of a GGUF the library holds the tensors as read and once more as packed; an IR's are
# mapped from the file, so that only the packed ones count.
GGUF_COPIES = 2
KV_BYTES = 2  # 16 bits, see `engines.openvino`


@dataclasses.dataclass(frozen=True)
class Found:
    """A model on disk; sizes in bytes. `path` is what the library is given."""

    path: pathlib.Path
    weights: int
    kv_bytes: int  # of one token
    context_tokens: int | None
    ends: tuple[int, ...]


def find(folder: pathlib.Path) -> Found:
    """Return the model of a folder.

    Raises `BadModel`: EngineUnsupported, or what is wrong with the head of a file.
    """
    if all((folder / name).exists() for name in IR):
        return _read_ir(folder)
    found = sorted(folder.glob("*.gguf"))
    if len(found) == 1:
        return _read_gguf(found[0])
    text = f"OpenVINO loads the six files of an IR or one .gguf; here are {len(found)} .gguf"
    raise BadModel("EngineUnsupported", text)


def _read_ir(folder: pathlib.Path) -> Found:
    config = _read_json(folder / "config.json")
    ends = _read_json(folder / "generation_config.json").get("eos_token_id")
    if ends is None:
        ends = config.get("eos_token_id")
    return Found(
        path=folder,
        weights=(folder / "openvino_model.bin").stat().st_size,
        kv_bytes=_count_kv_bytes(config),
        context_tokens=_number(config.get("max_position_embeddings")),
        ends=_numbers(ends if isinstance(ends, list) else [ends]),
    )


def _read_gguf(path: pathlib.Path) -> Found:
    size = path.stat().st_size
    with path.open("rb") as handle:
        try:
            head = gguf_header.read(handle, size, path.name)
        except gguf_header.EndsEarly:
            raise BadModel("UnsafeModelContent", f"{path.name} ends inside its head") from None
    family = head.values.get("general.architecture")
    names = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
    return Found(
        path=path,
        weights=GGUF_COPIES * size,
        kv_bytes=_count_kv_bytes(head.shape()),
        context_tokens=_number(head.values.get(f"{family}.context_length")),
        ends=_numbers([head.values.get(name) for name in names]),
    )


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise BadModel("ModelLoadFailed", f"{path.name} is not JSON") from None
    if not isinstance(body, dict):
        raise BadModel("ModelLoadFailed", f"{path.name} is not a JSON object")
    return body


def _count_kv_bytes(shape: dict[str, Any]) -> int:
    """Return the bytes one token takes: keys and values of every layer's key-value heads."""
    heads = _number(shape.get("num_attention_heads"))
    layers, width = _number(shape.get("num_hidden_layers")), _number(shape.get("hidden_size"))
    if not heads or not layers or not width:
        raise BadModel("EngineUnsupported", "the model does not say how many layers and heads")
    size = _number(shape.get("head_dim")) or width // heads
    return 2 * KV_BYTES * layers * size * (_number(shape.get("num_key_value_heads")) or heads)


def _number(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _numbers(values: list[Any]) -> tuple[int, ...]:
    return tuple(sorted({value for value in values if type(value) is int and value >= 0}))
