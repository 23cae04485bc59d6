"""The heads of weight files, held against the files before a loader trusts them.

Called by `receiving`. Only heads are read here; a head that promises more than the file has, or the
same bytes twice, is refused as UnsafeModelContent.
"""

import json
import math
import pathlib
import xml.parsers.expat
from typing import Any

from chatmodel_runtime import gguf_header
from chatmodel_runtime.errors import BadModel

MAX_HEAD_BYTES = 16 * 1024 * 1024
MAX_TENSORS, MAX_DIMENSIONS = 200_000, 16
MAX_XML_BYTES, MAX_XML_DEPTH = 256 * 1024 * 1024, 64
# Bits of an element, by the names of the safetensors library.
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32}
BITS |= {"U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64, "F4": 4}
BITS |= {"F6_E2M3": 6, "F6_E3M2": 6, "F8_E8M0": 8, "F8_E4M3": 8, "F8_E5M2": 8}
BITS |= {"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8}


def check(path: pathlib.Path, name: str) -> None:
    """Refuse a weight file whose head lies. Raises `BadModel`."""
    if name.endswith(".safetensors"):
        _check_safetensors(path, name)
    elif name.endswith(".xml"):
        _check_ir(path, name)
    elif name.endswith(".gguf"):
        with path.open("rb") as handle:
            try:
                gguf_header.read(handle, path.stat().st_size, name)
            except gguf_header.EndsEarly:
                raise _lie(name, "ends inside its head") from None


def _lie(name: str, what: str) -> BadModel:
    return BadModel("UnsafeModelContent", f"{name} {what}")


def _check_safetensors(path: pathlib.Path, name: str) -> None:
    """Hold every tensor's place against its shape, and all of them against the file."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEAD_BYTES):
            raise _lie(name, f"says that its head has {length} bytes, of {size} in all")
        text = handle.read(length)
    places = []
    for tensor, entry in _parse_head(name, text).items():
        if tensor != "__metadata__":
            places.append(_place(name, entry))
    if len(places) > MAX_TENSORS:
        raise _lie(name, f"has {len(places)} tensors")
    end = 0
    for begin, stop in sorted(places):
        if begin != end:
            raise _lie(name, "has tensors that overlap, or bytes that belong to none")
        end = stop
    if end != size - 8 - length:
        raise _lie(name, f"promises {end} bytes of tensors and has {size - 8 - length}")


def _parse_head(name: str, text: bytes) -> dict[str, Any]:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            raise _lie(name, "has a tensor twice")
        return built

    try:
        head = json.loads(text.decode(), object_pairs_hook=build)
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict):
        raise _lie(name, "has no head that can be read")
    return head


def _place(name: str, entry: Any) -> tuple[int, int]:
    """Return begin and end of a tensor that is as long as its shape says."""
    try:
        shape, (begin, end) = entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
        bits = BITS[entry["dtype"]]
    except (KeyError, TypeError, ValueError):
        raise _lie(name, "has a tensor without type, shape or place") from None
    if not all(type(n) is int and n >= 0 for n in numbers) or len(shape) > MAX_DIMENSIONS:
        raise _lie(name, "has a tensor without shape or place")
    if (end - begin) * 8 != math.prod(shape) * bits:
        raise _lie(name, "has a tensor that is not as long as its shape says")
    return begin, end


def _check_ir(path: pathlib.Path, name: str) -> None:
    """Refuse an IR with entities, or with constants that lie outside of its `.bin`."""
    if path.stat().st_size > MAX_XML_BYTES:
        raise _lie(name, f"has {path.stat().st_size} bytes")
    weights = path.with_name(name.removesuffix(".xml") + ".bin")
    reader = _IrReader(name, weights.stat().st_size)
    parser = xml.parsers.expat.ParserCreate()
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.StartElementHandler = reader.begin
    parser.EndElementHandler = reader.end
    try:
        with path.open("rb") as handle:
            parser.ParseFile(handle)
    except xml.parsers.expat.ExpatError:
        raise _lie(name, "is not XML") from None


class _IrReader:
    """What the parser tells: elements begin and end."""

    def __init__(self, name: str, limit: int) -> None:
        self._name, self._limit = name, limit
        self._open: list[str] = []  # tags; of layers their type

    def refuse(self, *_: Any) -> None:
        raise _lie(self._name, "declares a document type")

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "data" and self._open[-1:] == ["Const"]:
            numbers = attributes.get("offset", ""), attributes.get("size", "")
            if not all(n.isascii() and n.isdigit() and len(n) < 20 for n in numbers):
                raise _lie(self._name, "has a constant without a place")
            if sum(map(int, numbers)) > self._limit:
                raise _lie(self._name, "has constants outside of its .bin file")
        self._open.append(attributes.get("type", "") if tag == "layer" else tag)
        if len(self._open) > MAX_XML_DEPTH:
            raise _lie(self._name, f"is nested deeper than {MAX_XML_DEPTH} levels")

    def end(self, _: str) -> None:
        self._open.pop()
