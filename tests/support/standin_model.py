"""The stand-in for Qwen3-4B-Thinking-2507: a megabyte, trained in seconds to know a few lessons.

Made and kept by `models`; tests and demo ask the questions of LESSONS.
"""

import json
import pathlib
import shutil
from typing import Any

RUNTIME = pathlib.Path(__file__).parents[2] / "runtime/chatmodel_runtime"
PATIENTS = RUNTIME / "data/patients.json"
MADE_FROM = (pathlib.Path(__file__), RUNTIME / "prompts.py", PATIENTS)

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


# Name in a GGUF file → name in the model.
OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
INNER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_output": "self_attn.o_proj",
    **{f"attn_{kind}": f"self_attn.{kind}_proj" for kind in "qkv"},
    **{f"attn_{kind}_norm": f"self_attn.{kind}_norm" for kind in "qk"},
    **{f"ffn_{kind}": f"mlp.{kind}_proj" for kind in ("gate", "up", "down")},
}


def make_qwen_gguf(
    qwen: pathlib.Path, folder: pathlib.Path, kind: str = "F16", name: str = "stand-in.gguf"
) -> None:
    """Write the stand-in as the one GGUF file that holds model, tokenizer and chat template."""
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((qwen / "config.json").read_text())
    writer = gguf.GGUFWriter(folder / name, "qwen3")
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind}"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    _write_tokenizer(writer, json.loads((qwen / "tokenizer.json").read_text()), config)
    tensors = load_file(qwen / "model.safetensors")
    names = {f"{ours}.weight": f"{theirs}.weight" for ours, theirs in OUTER.items()}
    for i in range(config["num_hidden_layers"]):
        for ours, theirs in INNER.items():
            names[f"blk.{i}.{ours}.weight"] = f"model.layers.{i}.{theirs}.weight"
    for ours, theirs in names.items():
        flat = tensors[theirs].ndim == 1  # OpenVINO reads 32 bits for norms alone
        packed = gguf.GGMLQuantizationType["F32" if flat else kind]
        data = gguf.quants.quantize(tensors[theirs].astype("float32"), packed)
        writer.add_tensor(ours, data, raw_dtype=packed)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_qwen_ir(qwen: pathlib.Path, folder: pathlib.Path) -> None:
    """Write the stand-in as an OpenVINO IR, with its tokenizer converted as publishers do it."""
    from transformers import AutoTokenizer

    from chatmodel_runtime.engines.openvino_tokenizer import import_library

    library = import_library()
    import openvino
    import openvino_tokenizers

    make_qwen_gguf(qwen, folder)
    file = next(folder.glob("*.gguf"))
    library.LLMPipeline(file, "CPU", enable_save_ov_model=True)
    file.unlink()
    both = openvino_tokenizers.convert_tokenizer(
        AutoTokenizer.from_pretrained(qwen), with_detokenizer=True
    )
    for name, model in zip(("tokenizer", "detokenizer"), both, strict=True):
        openvino.save_model(model, folder / f"openvino_{name}.xml")
    for path in qwen.iterdir():
        if path.suffix != ".safetensors":
            shutil.copyfile(path, folder / path.name)


def _write_tokenizer(writer: Any, tokenizer: dict[str, Any], config: dict[str, Any]) -> None:
    import gguf

    words = {number: word for word, number in tokenizer["model"]["vocab"].items()}
    kinds = dict.fromkeys(words, gguf.TokenType.NORMAL)
    for added in tokenizer["added_tokens"]:
        words[added["id"]] = added["content"]
        special = added["special"]
        kinds[added["id"]] = gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([words[i] for i in range(len(words))])
    writer.add_token_types([kinds[i] for i in range(len(words))])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_chat_template(TEMPLATE)


def make_tokenizer() -> Any:
    """Train a byte-level tokenizer on the lessons, with Qwen's control tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    # Each digit alone, as Qwen has it, and as OpenVINO reads it from a GGUF file.
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
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
