"""Which files of a model are taken, by their names alone: one format, of one quantization. Pure.

Called by `screening`, which has looked at the names. An allow-list: what is not on it is not
fetched.
"""

import collections
import dataclasses
import re

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
_WEIGHTS = re.compile(f"{SHARD.pattern}|{GGUF_NAME.pattern}")
# What stands beside a model: a part of one, a projector for pictures, a quantiser's statistics.
NO_WHOLE_GGUF = re.compile(r"-\d{5}-of-\d{5}\.gguf$|^mmproj|imatrix|^ggml-vocab", re.IGNORECASE)
GGUF_WORD = re.compile(
    r"(?:^|[-._])((?:I?Q[1-8](?:_[A-Z0-9]{1,4}){0,3})|BF16|FP?16|F32)\.gguf$", re.IGNORECASE
)
# The words that make a GGUF file one of a kind; of several files the one with the first of them.
# Only types that OpenVINO loads: not BF16, F32, Q5_K, nor Q4_K_S, which has tensors of Q5_K.
NONE = "None"
QUANTIZATIONS = {NONE: ("F16",), "Int8": ("Q8_0",), "Int4": ("Q4_K_M", "Q4_0", "Q4_1")}
MAX_WORDS = 12
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


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is taken of a model: one format, and the names of its files, weights last."""

    format: str
    names: tuple[str, ...]

    @property
    def report(self) -> list[str]:
        """The names in short: of weights in parts the first alone, which says how many they are."""
        found = ((name, SHARD.fullmatch(name)) for name in self.names)
        return [name for name, part in found if part is None or int(part[1]) == 1]


@dataclasses.dataclass(frozen=True)
class Wish:
    """Which quantization is asked for, of a repository of this name."""

    quantization: str = NONE
    repository: str = ""

    @property
    def is_in_its_name(self) -> bool:
        """Whether the repository's name says so, as `Phi-4-int4-ov` and `Qwen3-GPTQ-Int4` do."""
        word = rf"(?:^|[-._]){self.quantization}(?:$|[-._])"
        return re.search(word, self.repository, re.IGNORECASE) is not None


def choose(names: set[str], wish: Wish) -> Choice:
    """Return what is taken of these names.

    Raises `BadModel`: UnsafeModelContent without weights in a format that is taken;
    EngineUnsupported when they are not whole, of another quantization, or too many.
    """
    lacking = {}
    for kind in PREFERENCE:
        choice, fault = _find(kind, names, wish)
        if choice is not None:
            return choice
        if fault:
            lacking[kind] = fault
    if not lacking:
        text = "the model has no weights in a format that is taken: safetensors, openvino_*.xml,"
        raise BadModel("UnsafeModelContent", f"{text} .gguf")
    advice = _advise(names, wish, has_gguf=GGUF in lacking)
    raise BadModel("EngineUnsupported", "; ".join((*lacking.values(), *advice)))


def _advise(names: set[str], wish: Wish, *, has_gguf: bool) -> list[str]:
    """Return what would help: another quantization, if the model has one that is taken."""
    others = _others(names, wish)
    if there := [word for word, found in others.items() if found is not None]:
        return [f"set spec.quantization to {' or '.join(there)}"]
    return [f"publish one alone, or one named {_words()}"] if has_gguf else []


def advise(names: set[str], wish: Wish, choice: Choice) -> str:
    """Return what would help when what was chosen of these names is not loaded: other files."""
    others = _others(names, wish)
    if words := [word for word, found in others.items() if found not in (None, choice)]:
        return f"set spec.quantization to {' or '.join(words)}"
    return f"name a model that has a file named {_words()}"


def _others(names: set[str], wish: Wish) -> dict[str, Choice | None]:
    """Return what each quantization would take."""
    wishes = [dataclasses.replace(wish, quantization=word) for word in QUANTIZATIONS]
    found = {w.quantization: [_find(kind, names, w)[0] for kind in PREFERENCE] for w in wishes}
    return {word: next(filter(None, choices), None) for word, choices in found.items()}


def _words() -> str:
    return ", ".join(word for words in QUANTIZATIONS.values() for word in words)


def _find(kind: str, names: set[str], wish: Wish) -> tuple[Choice | None, str]:
    """Return the choice if it is of this format, else what speaks against it."""
    weights, fault = _FINDERS[kind](names, wish)
    if weights and kind != GGUF:
        if "config.json" not in names:
            weights, fault = [], "the model has no config.json"
        elif wish.quantization != NONE and not wish.is_in_its_name:
            named = f"in a repository that is named so, as name-{wish.quantization}"
            weights, fault = [], f"its {kind} files are {wish.quantization} only {named}"
    if not weights:
        return None, fault
    index = [INDEX] if kind == SAFETENSORS and weights != [SINGLE] else []
    return Choice(kind, (*sorted(names & (CONFIGS | TEXTS)), *index, *weights)), ""


def _find_safetensors(names: set[str], _: Wish) -> tuple[list[str], str]:
    if SINGLE in names:
        return [SINGLE], ""
    shards = sorted(name for name in names if SHARD.fullmatch(name))
    if not shards:
        return [], ""
    whole = parts_of(shards[0])
    if shards != whole:
        count = int(shards[0].split("-")[-1].split(".")[0])
        return [], f"of {count} safetensors files {len(set(shards) & set(whole))} are there"
    if INDEX not in names:
        return [], f"the model has no {INDEX}"
    return shards, ""


def _find_ir(names: set[str], _: Wish) -> tuple[list[str], str]:
    missing = [name for name in IR if name not in names]
    if not missing:
        return sorted(IR), ""
    some = any(name in names for name in IR[:2])
    return [], f"of the OpenVINO files {', '.join(missing)} are missing" if some else ""


def _find_gguf(names: set[str], wish: Wish) -> tuple[list[str], str]:
    every = [name for name in names if GGUF_NAME.fullmatch(name)]
    whole = [name for name in every if not NO_WHOLE_GGUF.search(name)]
    if len(whole) == 1 and wish.quantization == NONE:
        return whole, ""  # there is nothing to choose
    said = {name: _word(found[1]) for name in whole if (found := GGUF_WORD.search(name))}
    words = QUANTIZATIONS[wish.quantization]
    for word in words:
        if len(named := [name for name in said if said[name] == word]) == 1:
            return named, ""
    counted = sorted(collections.Counter(said.values()).items())
    there = [word if count == 1 else f"{count} x {word}" for word, count in counted]
    there[MAX_WORDS:] = ["..."] if len(there) > MAX_WORDS else []
    fault = f"the model has {len(every)} .gguf files, and not just one for {wish.quantization}"
    fault += f" ({', '.join(words)}): they are named {', '.join(there) or 'otherwise'}"
    return [], fault if every else ""


def _word(text: str) -> str:
    """Return the word for what a file's name says; Qwen's name F16 as FP16."""
    return text.upper().replace("FP16", "F16")


_FINDERS = {SAFETENSORS: _find_safetensors, OPENVINO: _find_ir, GGUF: _find_gguf}


def is_config(name: str) -> bool:
    """Say whether a file is small and read by us before anything else reads it."""
    return name in CONFIGS | TEXTS | {INDEX}


def is_taken(name: str) -> bool:
    """Say whether a file is ever fetched."""
    return is_config(name) or name in (SINGLE, *IR) or _WEIGHTS.fullmatch(name) is not None


def parts_of(name: str) -> list[str]:
    """Return all files of weights in parts, by the name of any; of others the one alone."""
    found = SHARD.fullmatch(name)
    if found is None:
        return [name]
    count = int(found[2])
    return [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(min(count, MAX_FILES))]
