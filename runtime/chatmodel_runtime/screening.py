"""Which files of a model are taken, and which of their words are refused. Pure.

Called by `model_manager` and `configs` before any loader runs. An allow-list by name: what is not
on it is not fetched. `trust_remote_code=False` alone has been bypassed before (docs/staging.md), so
that keys which ask for code are looked for here.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from chatmodel_runtime.errors import BadModel

SAFETENSORS, OPENVINO, GGUF = "safetensors", "openvino", "gguf"
# Safetensors first: two engines load them, on any hardware. An IR before a GGUF file: it brings
# its tokenizer, and loads in half the time.
PREFERENCE = (SAFETENSORS, OPENVINO, GGUF)

SINGLE = "model.safetensors"
SHARD = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
INDEX = "model.safetensors.index.json"
IR = tuple(
    f"openvino_{part}.{kind}"
    for part in ("model", "tokenizer", "detokenizer")
    for kind in ("xml", "bin")
)
GGUF_NAME = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._+]*\.gguf")
# What stands beside a model: a part of one, a projector for pictures, a quantiser's statistics.
NO_WHOLE_GGUF = re.compile(r"-\d{5}-of-\d{5}\.gguf$|^mmproj|imatrix|^ggml-vocab", re.IGNORECASE)
# Of several files the first of these: small ones that lose little, then those that lose nothing.
QUANTISATIONS = ("Q4_K_M", "Q4_0", "Q4_1", "Q8_0", "F16", "BF16")
CONFIGS = frozenset(
    {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
    }
)
TEXTS = frozenset({"chat_template.jinja", "merges.txt"})
MAX_FILES = 10_000
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 1024
# Control characters, invisible ones that turn a name around, line breaks, halves of characters.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_CODE_KEYS = re.compile(
    r"auto_map|trust_remote_code|.*_internal|custom_(pipelines|generate)|use_kernels|kernel_config",
    re.IGNORECASE,
)
_IMPLEMENTATION = re.compile(r".*_implementation")
# Where the author had the model, and how he fetched it: a loader could follow that to elsewhere.
_PATH_KEYS = re.compile(
    r"(.*_)?name_or_path|.*_file|_commit_hash|code_revision|cache_dir|use_auth_token|proxies"
    r"|(force|resume)_download|local_files_only"
)


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is taken of a model: one format, and the names of its files, weights last."""

    format: str
    names: tuple[str, ...]


def choose(names: Sequence[str]) -> Choice:
    """Return what is taken of a model that lists these names.

    Raises `BadModel`: UnsafeModelContent for a name that plays tricks, or when there are no
    weights in a format that is taken; EngineUnsupported when they are not whole, or too many.
    """
    if len(names) > MAX_FILES:
        raise BadModel("UnsafeModelContent", f"the model lists {len(names)} files")
    for name in names:
        if fault := _trick(name):
            raise BadModel("UnsafeModelContent", f"the name {name[:80]!a} {fault}")
    choice = _choose(set(names))
    _check_twins(names, choice.names)
    return choice


def _trick(name: str) -> str | None:
    """Say what is wrong with a file's name, as it would be on a disk."""
    if "\\" in name:
        return "has a backslash"
    if any(unicodedata.category(letter) in _HIDDEN for letter in name):
        return "has characters that cannot be seen"
    if name.startswith("/") or not name:
        return "is no place inside the model"
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "leads out of the model"
    if len(name.encode()) > MAX_PATH_BYTES or max(len(p.encode()) for p in parts) > MAX_NAME_BYTES:
        return "is too long"
    return None


def _check_twins(names: Sequence[str], taken: Sequence[str]) -> None:
    """Refuse names that a disk could take for one that is fetched, or that come twice."""
    folded = {name.casefold() for name in taken}
    twins = [name for name in names if name.casefold() in folded]
    if len(twins) != len(folded):
        odd = next((name for name in twins if name not in taken), twins[0])
        text = f"{odd!a} is there twice, or in other letters too"
        raise BadModel("UnsafeModelContent", text)


def _choose(names: set[str]) -> Choice:
    configs = sorted(names & (CONFIGS | TEXTS))
    lacking = {}
    for kind in PREFERENCE:
        weights, fault = _FINDERS[kind](names)
        if weights and kind != GGUF and "config.json" not in names:
            weights, fault = [], "the model has no config.json"
        if weights:
            index = [INDEX] if kind == SAFETENSORS and weights != [SINGLE] else []
            return Choice(kind, (*configs, *index, *weights))
        if fault:
            lacking[kind] = fault
    if lacking:
        raise BadModel("EngineUnsupported", "; ".join(lacking.values()))
    text = "the model has no weights in a format that is taken: safetensors, openvino_*.xml, .gguf"
    raise BadModel("UnsafeModelContent", text)


def _find_safetensors(names: set[str]) -> tuple[list[str], str]:
    if SINGLE in names:
        return [SINGLE], ""
    shards = sorted(name for name in names if SHARD.fullmatch(name))
    if not shards:
        return [], ""
    count = int(shards[0].split("-")[-1].split(".")[0])
    whole = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(min(count, MAX_FILES))]
    if shards != whole:
        return [], f"of {count} safetensors files {len(set(shards) & set(whole))} are there"
    if INDEX not in names:
        return [], f"the model has no {INDEX}"
    return shards, ""


def _find_ir(names: set[str]) -> tuple[list[str], str]:
    missing = [name for name in IR if name not in names]
    if not missing:
        return sorted(IR), ""
    some = any(name in names for name in IR[:2])
    return [], f"of the OpenVINO files {', '.join(missing)} are missing" if some else ""


def _find_gguf(names: set[str]) -> tuple[list[str], str]:
    every = [name for name in names if GGUF_NAME.fullmatch(name)]
    whole = [name for name in every if not NO_WHOLE_GGUF.search(name)]
    if len(whole) == 1:
        return whole, ""
    for word in QUANTISATIONS:
        named = re.compile(rf"(?:^|[-._]){word}\.gguf", re.IGNORECASE)
        if len(found := [name for name in whole if named.search(name)]) == 1:
            return found, ""
    many = f"the model has {len(every)} .gguf files, and not one of them is to be taken:"
    advice = f"publish one alone, or one named {', '.join(QUANTISATIONS)}"
    return [], f"{many} {advice}" if every else ""


_FINDERS = {SAFETENSORS: _find_safetensors, OPENVINO: _find_ir, GGUF: _find_gguf}


def is_config(name: str) -> bool:
    """Say whether a file is small and read by us before anything else reads it."""
    return name in CONFIGS | TEXTS | {INDEX}


def screen(name: str, body: Any) -> None:
    """Refuse a configuration that asks for code. Raises `BadModel` naming the key."""
    for key, value in _settings(body):
        if _CODE_KEYS.fullmatch(key):
            raise BadModel(
                "UnsafeModelContent", f"{name} has the key {key[:80]!a}, which asks for code"
            )
        if _IMPLEMENTATION.fullmatch(key) and "/" in str(value):
            text = f"{name} wants {key[:80]!a} from elsewhere, which asks for code"
            raise BadModel("UnsafeModelContent", text)


def screen_index(body: Any, taken: Sequence[str]) -> None:
    """Refuse an index that names other files than the weights at hand. Raises `BadModel`."""
    shards = body.get("weight_map") if isinstance(body, dict) else None
    if not isinstance(shards, dict) or not all(
        isinstance(shard, str) and SHARD.fullmatch(shard) and shard in taken
        for shard in shards.values()
    ):
        raise BadModel("UnsafeModelContent", f"{INDEX} names files that are no weights here")


def drop_paths(body: Any) -> Any:
    """Return a configuration without what leads to another place: `_name_or_path` and its kin."""
    if isinstance(body, dict):
        return {k: drop_paths(v) for k, v in body.items() if not _PATH_KEYS.fullmatch(k)}
    return [drop_paths(value) for value in body] if isinstance(body, list) else body


def _settings(body: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(body, dict):
        for key, value in body.items():
            yield key, value
            yield from _settings(value)
    elif isinstance(body, list):
        for value in body:
            yield from _settings(value)
