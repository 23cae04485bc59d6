"""The head of a GGUF file, read by us before a loader written in C does.

Called by `weights` for the whole file and by `model_manager` for its first bytes. Layout:
github.com/ggml-org/ggml, docs/gguf.md. Every number is held against the file's size before use.
"""

import dataclasses
import math
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

from chatmodel_runtime import gguf_types
from chatmodel_runtime.errors import BadModel

# Families of which the one engine for such files builds a model (OpenVINO GenAI 2026.4.1).
FAMILIES = ("llama", "qwen2", "qwen3")
MAX_HEAD_BYTES = 64 * 1024 * 1024
MAX_VALUES, MAX_TENSORS, MAX_ELEMENTS = 4096, 65_536, 8_000_000
MAX_NAME_BYTES, MAX_DIMENSIONS = 256, 4
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
SCALARS[12] = "d"
# Type that loads → (elements in a block, bytes of a block): ggml's `type_traits`.
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 8: (32, 34), 10: (256, 84)}
BLOCKS |= {12: (256, 144), 14: (256, 210), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8)}
BLOCKS |= {28: (1, 8), 30: (1, 2)}


class WrongTypes(BadModel):
    """The file's tensors are of types that are not loaded; another file of the model may be."""


class EndsEarly(Exception):
    """The bytes at hand end inside the head."""


@dataclasses.dataclass(frozen=True)
class Header:
    """The single values of a head; lists are passed over."""

    values: Mapping[str, Any]

    def chat_template(self) -> str:
        """Return the chat template, or nothing."""
        return str(self.values.get("tokenizer.chat_template", ""))

    def shape(self) -> dict[str, Any]:
        """Return the model's shape in the words of a `config.json`."""
        family = self.values.get("general.architecture")
        words = {
            "num_attention_heads": "attention.head_count",
            "num_key_value_heads": "attention.head_count_kv",
            "head_dim": "attention.key_length",
            "hidden_size": "embedding_length",
            "num_hidden_layers": "block_count",
        }
        found = {word: self.values.get(f"{family}.{key}") for word, key in words.items()}
        return {word: value for word, value in found.items() if value is not None}


def read(handle: BinaryIO, size: int, name: str) -> Header:
    """Return the head of a file of `size` bytes.

    Raises `BadModel`: UnsafeModelContent for a head that lies; EngineUnsupported for a family that
    is not loaded, and as `WrongTypes` for types that are not. `EndsEarly` when more is needed.
    """
    reader = _Reader(handle, size, name)
    if reader.take(4) != b"GGUF" or reader.number("I") not in (2, 3):
        raise reader.lie("is not GGUF of version 2 or 3")
    tensors = reader.count(MAX_TENSORS)
    values: dict[str, Any] = {}
    for _ in range(reader.count(MAX_VALUES)):
        key = reader.text(MAX_NAME_BYTES)
        if key in values:
            raise reader.lie("has a key twice")
        values[key] = reader.value()
    _check_family(reader.name, values)
    places = _read_tensors(reader, tensors, values.get("general.file_type"))
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 8 <= alignment <= 4096 or alignment % 8:
        raise reader.lie("is aligned to nothing a machine knows")
    _check_places(reader, places, alignment)
    return Header({key: value for key, value in values.items() if value is not None})


def _check_family(name: str, values: Mapping[str, Any]) -> None:
    family = values.get("general.architecture")
    if family not in FAMILIES:
        text = f"{name} is of the family {str(family)[:40]!a}, and taken are {', '.join(FAMILIES)}"
        raise BadModel("EngineUnsupported", text)
    if values.get(f"{family}.expert_count"):
        raise BadModel("EngineUnsupported", f"{name} has experts, and OpenVINO loads none")


def _read_tensors(reader: "_Reader", count: int, file_type: Any) -> list[tuple[int, int]]:
    """Return begin and length of every tensor."""
    kinds, places = {}, []
    for _ in range(count):
        name = reader.text(MAX_NAME_BYTES)
        extents = [reader.number("Q") for _ in range(reader.count(MAX_DIMENSIONS, "I"))]
        kinds[name], begin = reader.number("I"), reader.number("Q")
        elements, bytes_of_block = BLOCKS.get(kinds[name], (1, 0))
        if math.prod(extents[:1]) % elements:  # each row has whole blocks
            raise reader.lie("has a tensor that ends inside a block")
        places.append((begin, math.prod(extents) // elements * bytes_of_block))
    if len(kinds) != count:
        raise reader.lie("has a tensor twice")
    if fault := gguf_types.find_fault(kinds, file_type):
        raise WrongTypes("EngineUnsupported", f"{reader.name} {fault}")
    return places


def _check_places(reader: "_Reader", places: list[tuple[int, int]], alignment: int) -> None:
    data = -(-reader.at // alignment) * alignment
    end = 0
    for begin, length in sorted(places):
        if begin < end or begin % alignment or data + begin + length > reader.size:
            raise reader.lie("has tensors that overlap, or lie outside of the file")
        end = begin + length


class _Reader:
    """Numbers and texts, one after the other, never beyond the file or the bytes at hand."""

    def __init__(self, handle: BinaryIO, size: int, name: str) -> None:
        self._handle = handle
        self.size, self.name = size, name
        self.at = 0
        self._elements = 0

    def lie(self, what: str) -> BadModel:
        return BadModel("UnsafeModelContent", f"{self.name} {what}")

    def take(self, length: int) -> bytes:
        self.at += length
        if self.at > min(self.size, MAX_HEAD_BYTES):
            raise self.lie("has a head that is larger than it can be")
        data = self._handle.read(length)
        if len(data) < length:
            raise EndsEarly
        return data

    def number(self, kind: str) -> Any:
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]

    def count(self, most: int, kind: str = "Q") -> int:
        found = int(self.number(kind))
        if found > most:
            raise self.lie(f"says that it has {found} of what can be {most} at most")
        return found

    def text(self, most: int = MAX_HEAD_BYTES) -> str:
        try:
            return self.take(self.count(most)).decode()
        except UnicodeDecodeError:
            raise self.lie("has a name that is not UTF-8") from None

    def value(self) -> Any:
        """Return a single value; None for a list, which is passed over."""
        kind = self.number("I")
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            return self._pass_over(self.number("I"))
        raise self.lie(f"has a value of the unknown kind {kind}")

    def _pass_over(self, kind: int) -> None:
        self._elements += (length := self.count(MAX_ELEMENTS))
        if self._elements > MAX_ELEMENTS:
            raise self.lie("has more in its lists than a vocabulary")
        if kind in SCALARS:
            self.take(length * struct.calcsize(f"<{SCALARS[kind]}"))
        elif kind == STRING:
            for _ in range(length):
                self.take(self.count(MAX_HEAD_BYTES))
        else:
            raise self.lie(f"has a list of the unknown kind {kind}")
