"""Which files of a model are taken, and which of their words are refused. Pure.

Called by `model_manager` before any loader runs. An allow-list by name: what is not on it is not
fetched. `trust_remote_code=False` alone has been bypassed before (docs/security.md), so that keys
which ask for code are looked for here.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from chatmodel_runtime.errors import BadModel

WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
INDEX = "model.safetensors.index.json"
CONFIGS = frozenset(
    {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        INDEX,
    }
)
TEXTS = frozenset({"chat_template.jinja", "merges.txt"})
MAX_FILES, MAX_CONFIG_BYTES = 10_000, 64 * 1024 * 1024
_CODE_KEYS = re.compile(r"^(auto_map|trust_remote_code|.*_internal|custom_pipelines)$")


def choose_files(names: Iterable[str]) -> list[str]:
    """Return the names that are taken, weights last. Raises `BadModel` (UnsafeModelContent)."""
    all_names = list(names)
    if len(all_names) > MAX_FILES:
        raise BadModel("UnsafeModelContent", f"the model lists {len(all_names)} files")
    weights = sorted(name for name in all_names if WEIGHTS.fullmatch(name))
    if not weights:
        raise BadModel("UnsafeModelContent", "the model has no weights in safetensors format")
    if "config.json" not in all_names:
        raise BadModel("EngineUnsupported", "the model has no config.json")
    return sorted(name for name in all_names if name in CONFIGS | TEXTS) + weights


def is_config(name: str) -> bool:
    """Say whether a file is small and read by us before anything else reads it."""
    return name in CONFIGS | TEXTS


def screen(name: str, body: Any) -> None:
    """Refuse a configuration that asks for code. Raises `BadModel` naming the key."""
    for key in _keys(body):
        if _CODE_KEYS.match(key):
            raise BadModel("UnsafeModelContent", f"{name} has the key {key}, which asks for code")


def screen_index(body: Any) -> None:
    """Refuse an index that names files outside the folder. Raises `BadModel`."""
    shards = body.get("weight_map") if isinstance(body, dict) else None
    if not isinstance(shards, dict) or not all(
        isinstance(shard, str) and WEIGHTS.fullmatch(shard) for shard in shards.values()
    ):
        raise BadModel("UnsafeModelContent", f"{INDEX} names files that are no weights here")


def _keys(body: Any) -> Iterator[str]:
    if isinstance(body, dict):
        for key, value in body.items():
            yield str(key)
            yield from _keys(value)
    elif isinstance(body, list):
        for value in body:
            yield from _keys(value)


def kv_bytes_per_token(config: dict[str, Any]) -> int | None:
    """Return the bytes one token takes in a 16-bit key-value cache; None when the shape is unusual.

    Two tensors (keys, values) of layers x key-value heads x head size, two bytes each.
    """
    try:
        heads = int(config["num_attention_heads"])
        size = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
        return (
            2
            * 2
            * int(config["num_hidden_layers"])
            * size
            * int(config.get("num_key_value_heads") or heads)
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
