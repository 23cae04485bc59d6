"""What OpenVINO loads from a model's folder, and what that takes: heads and sizes, no library.

Called by `engines.openvino`. A published IR (all six files) or exactly one `.gguf`; nothing is
converted.
"""

import contextlib
import dataclasses
import errno
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

from chatmodel_runtime import configs, formats, gguf_header
from chatmodel_runtime.errors import BadModel, TryAgain

# Measured: of a GGUF the library holds the tensors as read and once more as packed; an IR's are
# mapped from the file, so that only the packed ones count.
GGUF_COPIES = 2
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclasses.dataclass(frozen=True)
class Found:
    """A model on disk; sizes in bytes. `path` is what the library is given."""

    path: pathlib.Path
    weights: int
    kv_bytes: int  # of one token in 16 bits
    context_tokens: int | None
    ends: tuple[int, ...]


def find(folder: pathlib.Path) -> Found:
    """Return the model of a folder.

    Raises `BadModel`: EngineUnsupported, or what is wrong with the head of a file.
    """
    if all((folder / name).exists() for name in formats.IR):
        return _read_ir(folder)
    found = sorted(folder.glob("*.gguf"))
    if len(found) == 1:
        return _read_gguf(found[0])
    text = f"OpenVINO loads the six files of an IR or one .gguf; here are {len(found)} .gguf"
    raise BadModel("EngineUnsupported", text)


@contextlib.contextmanager
def open_to_writing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield where the library can load a model from: a copy of a GGUF file that is read-only.

    The library opens GGUF files for writing, although it never writes (2026.4.1); in pods the
    models are mounted read-only. Raises `TryAgain` (InsufficientStorage).
    """
    if path.is_dir() or os.access(path, os.W_OK):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / path.name
        try:
            shutil.copyfile(path, copy)
        except OSError as error:
            if error.errno not in FULL:
                raise
            size, free = path.stat().st_size, shutil.disk_usage(folder).free
            text = f"OpenVINO needs {size} bytes for a copy of {path.name}, {free} are free"
            raise TryAgain("InsufficientStorage", text) from None
        yield copy


def _read_ir(folder: pathlib.Path) -> Found:
    config = _read_config(folder / "config.json")
    ends = _read_config(folder / "generation_config.json").get("eos_token_id")
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


def _read_config(path: pathlib.Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    body: dict[str, Any] = configs.read(path.name, path.read_bytes(), ())
    return body


def _count_kv_bytes(shape: Mapping[str, Any]) -> int:
    found = configs.kv_bytes_per_token(shape)
    if found is None:
        raise BadModel("EngineUnsupported", "the model does not say how many layers and heads")
    return found


def _number(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _numbers(values: list[Any]) -> tuple[int, ...]:
    return tuple(sorted({value for value in values if type(value) is int and value >= 0}))
