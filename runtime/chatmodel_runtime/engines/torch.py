"""The transformers engine: any causal language model of the pinned library, on CPU or GPU.

The only importer of torch and transformers, both inside functions: importing this module is cheap,
and the event loop answers probes while the libraries load in a thread.
"""

import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

from chatmodel_runtime.engines import Cancelled, Completion, Message, Sampling
from chatmodel_runtime.errors import BadModel

QUOTA_FILES = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")


class TorchEngine:
    """A transformers model in one process; one generation at a time."""

    name = "Transformers"
    workers = 1

    def __init__(self, model_dir: pathlib.Path, threads: int | None = None) -> None:
        self._dir = model_dir
        self._threads = threads
        self._model: Any = None
        self._tokenizer: Any = None

    def load(self) -> None:
        """Load tokenizer and weights from disk alone.

        Raises `BadModel`: ChatTemplateMissing, or ModelLoadFailed also when weights are missing or
        do not fit the configuration, which the library itself only warns of.
        """
        os.environ["HF_HUB_OFFLINE"] = "1"
        import torch

        transformers = _import_transformers()
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        torch.set_num_threads(self._threads or count_threads())
        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(self._dir, **options)
            model, info = transformers.AutoModelForCausalLM.from_pretrained(
                self._dir,
                dtype="auto",
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are counted below, and refused with a number
                **options,
            )
        except Exception as error:  # whatever a library raises on a bad file, the model is bad
            raise BadModel("ModelLoadFailed", _first_line(error)) from error
        for fault in ("missing_keys", "mismatched_keys", "error_msgs"):
            if info.get(fault):
                word = fault.removesuffix("_keys").replace("_", " ")
                text = f"{len(info[fault])} tensors are {word}: the weights are not this model's"
                raise BadModel("ModelLoadFailed", text)
        if not self._tokenizer.chat_template:
            raise BadModel("ChatTemplateMissing", "the tokenizer has no chat template")
        self._model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def opens_thinking(self) -> bool:
        """Say whether the template itself opens `<think>` for the model."""
        prompt = self._prompt([{"role": "user", "content": "x"}], "")
        return prompt.rstrip().endswith("<think>")

    def complete(
        self,
        messages: list[Message],
        *,
        prefix: str = "",
        stop: str | None = None,
        max_tokens: int,
        sampling: Sampling,
        is_cancelled: Callable[[], bool],
        beat: Callable[[], None],
    ) -> Completion:
        """Generate with the library's own `generate`, one request at a time."""
        import torch

        transformers = _import_transformers()

        def step(scores: Any) -> Any:
            beat()
            if is_cancelled():
                raise Cancelled
            if bool(torch.isnan(scores).any()):
                raise ArithmeticError("the model's output is not a number")
            return scores

        class Step(transformers.LogitsProcessor):  # type: ignore[misc, name-defined]
            def __call__(self, input_ids: Any, scores: Any) -> Any:
                return step(scores)

        prompt = self._prompt(messages, prefix)
        inputs = self._tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        inputs = inputs.to(self._model.device)
        with torch.inference_mode():
            output = self._model.generate(
                **inputs,
                generation_config=self._generation_config(max_tokens, sampling, stop),
                logits_processor=transformers.LogitsProcessorList([Step()]),
                **({"tokenizer": self._tokenizer} if stop else {}),
            )
        return self._completion(inputs["input_ids"].shape[1], output[0], max_tokens, stop)

    def _completion(
        self, prompt_tokens: int, output: Any, max_tokens: int, stop: str | None
    ) -> Completion:
        ids = output[prompt_tokens:].tolist()
        ends = self._end_tokens()
        ended = bool(ids) and ids[-1] in ends
        text = self._tokenizer.decode(
            [i for i in ids if i not in ends],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        stopped = ended or (stop is not None and stop in text) or len(ids) < max_tokens
        return Completion(text, prompt_tokens, len(ids), "stop" if stopped else "length")

    def _prompt(self, messages: list[Message], prefix: str) -> str:
        prompt: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return prompt + prefix

    def _end_tokens(self) -> set[int]:
        ends = self._model.generation_config.eos_token_id
        found = set(ends if isinstance(ends, list) else [ends]) - {None}
        return found | ({self._tokenizer.eos_token_id} - {None})

    def _generation_config(self, max_tokens: int, sampling: Sampling, stop: str | None) -> Any:
        transformers = _import_transformers()
        ends = sorted(self._end_tokens())
        pad = self._tokenizer.pad_token_id
        options: dict[str, Any] = {
            "max_new_tokens": max_tokens,
            "eos_token_id": ends or None,
            "pad_token_id": pad if pad is not None else (ends[0] if ends else None),
            "do_sample": sampling.temperature > 0,
        }
        if sampling.temperature > 0:
            options |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
            options["top_k"] = sampling.top_k
        if stop:
            options["stop_strings"] = [stop]
        return transformers.GenerationConfig(**options)


def _import_transformers() -> Any:
    """Return the library; its types are too loose to be of help."""
    import transformers

    return transformers


def count_threads() -> int:
    """Return how many threads the cgroup's CPU quota pays for, at least one.

    With more threads than quota a step takes 1.7 times as long (measured at a quota of one CPU).
    """
    available = len(os.sched_getaffinity(0))
    for path in QUOTA_FILES:
        try:
            words = pathlib.Path(path).read_text().split()
            if path.endswith("cpu.cfs_quota_us"):
                words.append(pathlib.Path(path).with_name("cpu.cfs_period_us").read_text())
            quota = float(words[0]) / float(words[1])
        except (OSError, ValueError, IndexError):
            continue
        if quota > 0:
            return max(1, min(available, math.floor(quota)))
    return max(1, available)


def _first_line(error: BaseException) -> str:
    """Return the kind and first line of a library's error; files are ours, so nothing private."""
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text}"[:500]
