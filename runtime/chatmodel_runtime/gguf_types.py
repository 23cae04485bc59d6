"""Which tensors of a GGUF file its one engine, OpenVINO, loads: by name and type. Pure.

Called by `gguf_header`. Found by loading a file of each type and use with OpenVINO GenAI 2026.4.1
(docs/decisions/0006-openvino.md); `test_gguf_types.py` does it again.
"""

import re
from collections.abc import Mapping

# ggml's `ggml_type`: number in a head → name.
NAMES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1"}
NAMES |= {10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS"}
NAMES |= {17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S"}
NAMES |= {23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M"}
NAMES |= {30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0"}

MATRICES = ("F16", "Q8_0", "Q6_K", "Q4_K", "Q4_0", "Q4_1")
# Embeddings and head, and what no model is built from: copied, or turned into 16 bits.
OTHERS = (*MATRICES, "F32", "BF16", "Q2_K", "F64", "I64", "I32", "I16", "I8")
LAYER = re.compile(r"blk\.\d+\.(?:attn_(?:q|k|v|output)|ffn_(?:gate|up|down))\.weight")
# Name of a tensor, what such tensors are, and the types they may have.
USES = (
    (LAYER, "matrices", MATRICES),
    (re.compile(r".*norm\.weight"), "norms", ("F32",)),
    (re.compile(r".*\.bias"), "biases", ("F32", "F16", "BF16")),
    (re.compile(r".*", re.DOTALL), "tensors", OTHERS),
)
WITHOUT_SCALES = (0, 1)  # file types of which OpenVINO reads no scales of layers: F32 and F16


def find_fault(kinds: Mapping[str, int], file_type: object) -> str:
    """Return what speaks against loading a file, or nothing.

    `kinds` has the type's number of each tensor by its name; `file_type` is `general.file_type`.
    """
    found: dict[int, set[str]] = {}
    for name, kind in kinds.items():
        use = next(i for i, (pattern, *_) in enumerate(USES) if pattern.fullmatch(name))
        if (word := NAMES.get(kind, f"kind {kind}")) not in USES[use][2]:
            found.setdefault(use, set()).add(word)
    if found:
        _, what, loaded = USES[min(found)]
        words = ", ".join(sorted(found[min(found)]))
        return f"has {what} of {words}; OpenVINO loads {', '.join(loaded)}"
    if type(file_type) is not int:
        return "does not say its general.file_type, and OpenVINO loads no file without"
    packed = {NAMES[kind] for name, kind in kinds.items() if LAYER.fullmatch(name)} - {"F16"}
    if packed and file_type in WITHOUT_SCALES:
        words = ", ".join(sorted(packed))
        return f"has matrices of {words}; OpenVINO loads none of general.file_type {file_type}"
    return ""
