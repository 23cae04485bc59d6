"""A model's configuration files: parsed once, strictly, screened, and what follows from them. Pure.

Called by `model_manager` and `receiving`, before any library reads the same files. What two parsers
could read in two ways (names that come twice, letters that are no UTF-8) is refused.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from chatmodel_runtime import formats, screening
from chatmodel_runtime.errors import BadModel

MAX_BYTES = 64 * 1024 * 1024
MAX_TEMPLATE_BYTES = 1024 * 1024
MAX_DEPTH = 32
# Their keys are words of the model, not settings.
VOCABULARIES = frozenset({"vocab.json", "added_tokens.json"})
WITH_PATHS = frozenset(
    {
        "config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    }
)


def check_size(name: str, size: int) -> None:
    """Refuse a configuration that is too large to be one, before it is fetched."""
    limit = MAX_TEMPLATE_BYTES if name == "chat_template.jinja" else MAX_BYTES
    if size > limit:
        raise BadModel("UnsafeModelContent", f"{name} has {size} bytes, {limit} is the most")


def read(name: str, data: bytes, taken: Sequence[str]) -> Any:
    """Return the text or the JSON object of a file. Raises `BadModel`."""
    check_size(name, len(data))
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise BadModel("ModelLoadFailed", f"{name} is not UTF-8") from None
    if not name.endswith(".json"):
        return text
    body = _parse(name, text)
    if name == formats.INDEX:
        screening.screen_index(body, taken)
    elif name in VOCABULARIES:
        if not all(type(number) is int for number in body.values()):
            raise BadModel("UnsafeModelContent", f"{name} is no vocabulary")
    else:
        screening.screen(name, _without_vocabulary(body) if name == "tokenizer.json" else body)
    return body


def _parse(name: str, text: str) -> dict[str, Any]:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            raise BadModel("UnsafeModelContent", f"{name} has a key twice")
        return built

    try:
        body = json.loads(text, object_pairs_hook=build)
    except RecursionError:
        raise _too_deep(name) from None
    except ValueError:
        raise BadModel("ModelLoadFailed", f"{name} is not JSON") from None
    if not isinstance(body, dict):
        raise BadModel("ModelLoadFailed", f"{name} is not a JSON object")
    level: list[Any] = [body]
    for _ in range(MAX_DEPTH):
        inside = (part.values() if isinstance(part, dict) else part for part in level)
        level = [value for part in inside for value in part if isinstance(value, dict | list)]
    if level:
        raise _too_deep(name)
    return body


def _too_deep(name: str) -> BadModel:
    return BadModel("UnsafeModelContent", f"{name} is nested deeper than {MAX_DEPTH} levels")


def _without_vocabulary(body: dict[str, Any]) -> dict[str, Any]:
    model = body.get("model")
    if not isinstance(model, dict):
        return body
    return {**body, "model": {key: model[key] for key in model if key not in ("vocab", "merges")}}


def clean(name: str, body: Any) -> bytes | None:
    """Return a file without what leads to other places; None when there is no such thing in it."""
    if name not in WITH_PATHS:
        return None
    kept = screening.drop_paths(body)
    return None if kept == body else json.dumps(kept, indent=2, ensure_ascii=False).encode()


def chat_template(texts: Mapping[str, Any]) -> str:
    """Return the chat template, of its own file or the tokenizer's configuration; or nothing."""
    if named := texts.get("chat_template.jinja"):
        return str(named)
    inside = texts.get("tokenizer_config.json", {}).get("chat_template")
    if isinstance(inside, str):
        return inside
    return json.dumps(inside) if inside else ""


def kv_bytes_per_token(config: Mapping[str, Any]) -> int | None:
    """Return the bytes one token takes in a 16-bit key-value cache; None when the shape is unusual.

    Two tensors (keys, values) of layers x key-value heads x head size, two bytes each.
    """
    try:
        heads = int(config["num_attention_heads"])
        size = int(config.get("head_dim") or int(config["hidden_size"]) // heads)
        shared = int(config.get("num_key_value_heads") or heads)
        total = 2 * 2 * int(config["num_hidden_layers"]) * size * shared
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return total if total > 0 else None
