"""Which names and words of a model are refused. Pure.

Called by `model_manager` and `configs` before any loader runs. `trust_remote_code=False` alone has
been bypassed before (docs/staging.md), so that keys which ask for code are looked for here.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from chatmodel_runtime import formats
from chatmodel_runtime.errors import BadModel, TryAgain

NO_WISH = formats.Wish()
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


def choose(names: Sequence[str], wish: formats.Wish = NO_WISH) -> formats.Choice:
    """Return what is taken of a model that lists these names.

    Raises `BadModel` for a name that plays tricks, and as `formats.choose` does.
    """
    _check_names(names)
    choice = formats.choose(set(names), wish)
    _check_twins(names, choice.names)
    return choice


def take(names: Sequence[str], report: Sequence[str]) -> tuple[str, ...]:
    """Return the files of an earlier choice, by its `report`, of a model that lists these names.

    Raises `BadModel` (UnsafeModelContent), or `TryAgain` when the hub lists one no more.
    """
    _check_names(names)
    taken = tuple(part for name in report for part in formats.parts_of(name))
    for name in taken:
        if not formats.is_taken(name):
            raise BadModel("UnsafeModelContent", f"{name[:80]!a} is no file that is taken")
    if missing := set(taken) - set(names):
        raise TryAgain("HubUnavailable", f"the hub lists {min(missing)} no more")
    _check_twins(names, taken)
    return taken


def _check_names(names: Sequence[str]) -> None:
    if len(names) > formats.MAX_FILES:
        raise BadModel("UnsafeModelContent", f"the model lists {len(names)} files")
    for name in names:
        if fault := _trick(name):
            raise BadModel("UnsafeModelContent", f"the name {name[:80]!a} {fault}")


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
        isinstance(shard, str) and formats.SHARD.fullmatch(shard) and shard in taken
        for shard in shards.values()
    ):
        raise BadModel(
            "UnsafeModelContent", f"{formats.INDEX} names files that are no weights here"
        )


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
