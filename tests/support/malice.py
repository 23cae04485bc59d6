"""Repositories that mean harm: each would leave a file behind, or call somebody, if it were obeyed.

Used by the tests of staging. `payload` is Python that does both; `victim` obeys, to show that it
would be noticed.
"""

import dataclasses
import json
import pathlib
import pickle
from typing import Any

import small_models
from hub_mirror import File, Repositories

UNSAFE, BROKEN = "UnsafeModelContent", "ModelLoadFailed"
SHARD = "model-00001-of-00001.safetensors"
INDEX = "model.safetensors.index.json"


@dataclasses.dataclass(frozen=True)
class Case:
    """A repository: its files, names that only its listing has, and how it ends.

    `reason` None: it is taken, without what means harm.
    """

    files: dict[str, bytes]
    reason: str | None = UNSAFE
    names: tuple[str, ...] = ()


class Hostile(Repositories):
    """Lists names that no disk could hold."""

    def __init__(self, root: pathlib.Path, names: dict[str, tuple[str, ...]]) -> None:
        super().__init__(root)
        self._names = names

    def files(self, model_id: str, commit: str) -> list[File]:
        found = super().files(model_id, commit)
        return found + [File(name, found[0].path) for name in self._names.get(model_id, ())]


class Reduced:
    """Runs code when it is unpickled."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, (self._code,)


def payload(canary: pathlib.Path, port: int) -> str:
    """Return code that leaves a file behind and calls somebody."""
    return (
        f"import socket; open({str(canary)!r}, 'w').close();"
        f" socket.create_connection(('127.0.0.1', {port})).close()"
    )


def victim(folder: pathlib.Path) -> str:
    """Return a program that obeys what it finds in a folder."""
    return (
        "import pathlib, pickle, runpy\n"
        f"folder = pathlib.Path({str(folder)!r})\n"
        "pickle.loads((folder / 'pytorch_model.bin').read_bytes())\n"
        "runpy.run_path(str(folder / 'modeling_evil.py'))\n"
    )


def cases(canary: pathlib.Path, port: int) -> dict[str, Case]:
    """Return all repositories by what they try."""
    code = payload(canary, port)
    evil = {"modeling_evil.py": code.encode(), "pytorch_model.bin": pickle.dumps(Reduced(code))}
    whole = {**small_models.FILES, **evil}
    elsewhere = f"http://127.0.0.1:{port}/evil"

    def config(name: str = "config.json", **more: Any) -> dict[str, bytes]:
        body = json.loads(small_models.CONFIGS.get(name, b"{}"))
        return {**whole, name: json.dumps(body | more).encode()}

    def weights(body: bytes) -> dict[str, bytes]:
        return {**whole, "model.safetensors": body}

    def index(shard: str) -> dict[str, bytes]:
        body = json.dumps({"weight_map": {"w": shard}}).encode()
        return {**small_models.CONFIGS, SHARD: small_models.safetensors(), INDEX: body}

    auto_map = {"AutoModelForCausalLM": "modeling_evil.Evil"}
    two = {"w2": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}
    entity = f'<!DOCTYPE net [<!ENTITY e SYSTEM "{elsewhere}">]>'
    configs = small_models.CONFIGS
    asking = {
        "a model of its own": Case(config(auto_map=auto_map)),
        "a tokenizer of its own": Case(config("tokenizer_config.json", auto_map=auto_map)),
        "trust, asked for": Case(config(trust_remote_code=True)),
        "trust, asked for in a part": Case(config(text_config={"trust_remote_code": True})),
        "a kernel by an internal key": Case(config(_attn_implementation_internal="evil/kernel")),
        "a kernel by its usual key": Case(config(attn_implementation="evil/kernel")),
        "kernels": Case(config(use_kernels=True)),
        "a way to generate": Case(config("generation_config.json", custom_generate="evil/way")),
        "a key in disguise": Case({**whole, "config.json": b'{"auto\\u005fmap": {}}'}),
        "a key behind another": Case({**whole, "config.json": b'{"auto_map": {}, "auto_map": 0}'}),
        "code in a tokenizer": Case({**whole, "tokenizer.json": b'{"model": {"auto_map": {}}}'}),
        "a configuration without an end": Case({**whole, "config.json": b'{"a":' * 90_000}),
    }
    naming = {
        "a name that leads up": Case(whole, names=("../../evil.safetensors",)),
        "a name from the root": Case(whole, names=("/etc/cron.d/evil",)),
        "a name with backslashes": Case(whole, names=("..\\..\\evil.safetensors",)),
        "a name with an end inside": Case(whole, names=("config.json\0.txt",)),
        "a name that is turned around": Case(whole, names=("model\u202esrotsnetefas.py",)),
        "a name without an end": Case(whole, names=("x" * 5000,)),
        "a name in other letters": Case(whole, names=("CONFIG.json",)),
        "an index that leads up": Case(index("../../evil.safetensors")),
        "an index from the root": Case(index("/dev/shm/evil.safetensors")),
        "a link for a configuration": Case({**whole, "config.json": b"/etc/passwd"}, BROKEN),
        "a link for weights": Case(weights(b"../../../etc/shadow")),
    }
    lying = {
        "pickles alone": Case({**configs, **evil}),
        "a pickle by another name": Case(weights(evil["pytorch_model.bin"])),
        "a head beyond the file": Case(weights((2**62).to_bytes(8, "little") + b"{}")),
        "tensors over each other": Case(weights(small_models.safetensors(**two))),
        "a GGUF file that counts too far": Case({"a.gguf": b"GGUF\3\0\0\0" + b"\xff" * 16}),
        "a GGUF file with tensors outside": Case({"a.gguf": small_models.gguf(begin=2**50)}),
        "an IR that calls somebody": Case({**configs, **small_models.ir(before=entity)}),
        "an IR with constants outside": Case({**configs, **small_models.ir(offset=2**40)}),
        "an adapter of another model": Case(
            {"adapter_config.json": b"{}", "adapter_model.safetensors": b""} | configs | evil
        ),
    }
    harmless_then = {
        "code beside weights": Case(whole, None),
        "an adapter beside weights": Case(
            whole | {"adapter_config.json": json.dumps({"base": elsewhere}).encode()}, None
        ),
        "a package beside weights": Case(
            whole | {"setup.py": code.encode(), "sitecustomize.py": code.encode()}, None
        ),
        "a way to generate beside weights": Case(
            whole | {"custom_generate/generate.py": code.encode()}, None
        ),
        "a name that leads elsewhere": Case(config(_name_or_path=elsewhere), None),
        "a base that lies elsewhere": Case(config(base_model_name_or_path=elsewhere), None),
        "a vocabulary that lies elsewhere": Case(
            config("tokenizer_config.json", vocab_file=elsewhere, tokenizer_file=elsewhere), None
        ),
    }
    return asking | naming | lying | harmless_then
