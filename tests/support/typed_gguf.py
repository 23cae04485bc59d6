"""GGUF files of one small layer of zeros, with tensors of any of ggml's types.

Whole for a loader: llama, 256 wide, 320 tokens, a chat template, a vocabulary that nothing reads.
"""

import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import gguf
import numpy

WIDTH, INNER, VOCABULARY = 256, 512, 320
MATRICES = {
    "output.weight": (VOCABULARY, WIDTH),
    **{f"blk.0.attn_{part}.weight": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")},
    **{f"blk.0.ffn_{part}.weight": (INNER, WIDTH) for part in ("gate", "up")},
    "blk.0.ffn_down.weight": (WIDTH, INNER),
}
NORMS = ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight")
EMBEDDINGS, BIAS, EXTRA = "token_embd.weight", "blk.0.attn_q.bias", "rope_freqs.weight"
SHAPES = {
    **MATRICES,
    **dict.fromkeys(NORMS, (WIDTH,)),
    **{EMBEDDINGS: (VOCABULARY, WIDTH), BIAS: (WIDTH,), EXTRA: (WIDTH,)},
}


def typed_gguf(
    kind: str = "Q8_0",
    others: Mapping[str, str] | None = None,
    *,
    file_type: int | None = 7,
    values: Mapping[str, int] | None = None,
) -> bytes:
    """Return a file with matrices and embeddings of a type, and others by their names; F32 else."""
    types = dict.fromkeys(SHAPES, "F32") | dict.fromkeys((*MATRICES, EMBEDDINGS), kind)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "typed.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        _add_values(writer, {} if values is None else values)
        if file_type is not None:
            writer.add_file_type(file_type)
        for name, word in (types | dict(others or {})).items():
            _add_zeros(writer, name, gguf.GGMLQuantizationType[word])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def _add_values(writer: Any, values: Mapping[str, int]) -> None:
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_token_list([f"t{i}" for i in range(VOCABULARY)])
    writer.add_chat_template("{{ x }}")
    for name, value in values.items():
        writer.add_uint32(name, value)


def _add_zeros(writer: Any, name: str, kind: Any) -> None:
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    *rows, width = SHAPES[name]
    writer.add_tensor(
        name, numpy.zeros((*rows, width // elements * size), numpy.uint8), raw_dtype=kind
    )
