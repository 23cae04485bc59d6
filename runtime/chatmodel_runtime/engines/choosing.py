"""Which engine a model on disk is for, when nobody has said: by the names of its files, by GPUs.

Called by `commands` outside of clusters; in one the operator has chosen, by the same order
(`chatmodel_operator.resolution`).
"""

import pathlib

from chatmodel_runtime.errors import BadModel

# Pattern of a file's name, the engine that loads it, and what such a file is.
FORMATS = (
    ("model*.safetensors", "Transformers", "safetensors"),
    ("openvino_*.xml", "OpenVINO", "an OpenVINO IR"),
    ("*.gguf", "OpenVINO", "a GGUF file"),
)


def choose_engine(folder: pathlib.Path, *, gpus: int, has_vllm: bool) -> tuple[str, str]:
    """Return the engine for a model's folder, and why.

    `has_vllm`: the program `vllm` can be started. Raises `BadModel` (EngineUnsupported).
    """
    for pattern, engine, what in FORMATS:
        if any(folder.glob(pattern)):
            if engine == "Transformers" and gpus and has_vllm:
                return "VLLM", f"the model is {what}, and a GPU and vLLM are here"
            return engine, f"the model is {what}, which {engine} loads"
    raise BadModel("EngineUnsupported", "the model is no safetensors, OpenVINO IR or GGUF file")
