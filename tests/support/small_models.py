"""Models of some kilobytes in every format that is taken: whole, but without a thought in them.

Used by the tests of staging. No loader is needed to make them, and none to find them right.
"""

import json
import struct
from typing import Any

COMMIT = "1" * 40
TEMPLATE = "{{ x }}<think>"
SHAPE = {"num_attention_heads": 4, "hidden_size": 96, "num_hidden_layers": 2}
_WORDS = b"weights "


def safetensors(size: int = 400_000, **more: Any) -> bytes:
    """Return a file of `size` bytes with one tensor; `more` entries go into its head."""
    length = 160 + sum(len(json.dumps(value)) + 40 for value in more.values())
    data = size - 8 - length
    head = {"w": {"dtype": "U8", "shape": [data], "data_offsets": [0, data]}, **more}
    text = json.dumps(head).encode().ljust(length)
    assert len(text) == length and data >= 0
    return length.to_bytes(8, "little") + text + (_WORDS * (data // 8 + 1))[:data]


CONFIGS = {
    "config.json": json.dumps(SHAPE).encode(),
    "tokenizer_config.json": json.dumps({"chat_template": TEMPLATE}).encode(),
}
FILES = {**CONFIGS, "model.safetensors": safetensors()}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def value_of(value: Any) -> bytes:
    """Return a value of a GGUF head, its kind before it."""
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    if isinstance(value, list):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(text(word) for word in value)
    return struct.pack("<II", 4, value)


GGUF_VALUES = {
    "general.architecture": "llama",
    "general.file_type": 7,
    "llama.block_count": 2,
    "llama.embedding_length": 96,
    "llama.attention.head_count": 4,
    "tokenizer.ggml.tokens": ["<think>", "a", "b"],
    "tokenizer.chat_template": TEMPLATE,
}


def gguf(
    size: int = 400_000,
    values: dict[str, Any] | None = None,
    *,
    begin: int = 0,
    kind: int = 24,
    tensors: int = 1,
) -> bytes:
    """Return a GGUF file of about `size` bytes with tensors of bytes, one over the other."""
    values = GGUF_VALUES if values is None else values
    head = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(values))
    head += b"".join(text(key) + value_of(value) for key, value in values.items())
    for i in range(tensors):
        head += text(f"w{i}") + struct.pack("<IQIQ", 1, size, kind, begin)
    return head.ljust(-(-len(head) // 32) * 32, b"\0") + (_WORDS * (size // 8 + 1))[:size]


def ir(size: int = 400_000, offset: int = 0, before: str = "") -> dict[str, bytes]:
    """Return the six files of an OpenVINO model, whose constant is said to begin at `offset`."""
    layer = f'<data element_type="u8" shape="{size}" offset="{offset}" size="{size}"/>'
    body = f'<layers><layer id="0" name="w" type="Const" version="opset1">{layer}</layer></layers>'
    xml = f'<?xml version="1.0"?>{before}<net name="Model" version="11">{body}</net>'.encode()
    files: dict[str, bytes] = {}
    for part in ("model", "tokenizer", "detokenizer"):
        files |= {f"openvino_{part}.xml": xml, f"openvino_{part}.bin": bytes(size)}
    return files
