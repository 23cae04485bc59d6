"""The stand-in for Qwen3-4B-Thinking-2507: a megabyte, trained in seconds to know a few lessons.

Made and kept by `models`; tests and demo ask the questions of LESSONS.
"""

import json
import pathlib
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
