"""The transformers engine: any causal language model of the pinned library, on CPU or GPU.

Its scheduler is the library's own continuous batching. The libraries are imported inside functions:
importing this module is cheap, and the event loop answers probes while they load in a thread.
"""

import asyncio
import importlib
import logging
import pathlib
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from chatmodel_runtime import configs
from chatmodel_runtime.engines import BadOutput, EngineDead, Pulse, Request, Step, machine
from chatmodel_runtime.engines.hf_tokenizer import HfTokenizer, first_line
from chatmodel_runtime.errors import BadModel

PAGE_TOKENS = 32
BATCH_TOKENS = 512  # so that a long prompt does not hold up the answers under way
KV_TOKENS = 32_768
MAX_ACTIVE = 32
NO_END = -1
TRIED_TOKENS = 2


class TorchEngine:
    """A transformers model in one process, one batch of requests a step."""

    name = "Transformers"
    max_active = MAX_ACTIVE
    context_tokens = 0
    tokenizer: HfTokenizer

    def __init__(self, model_dir: pathlib.Path, threads: int | None = None) -> None:
        self.pulse = Pulse()
        self._dir = model_dir
        self._threads = threads or machine.count_threads()
        self._ends: list[int] = []
        self._manager: Any = None
        self._sampler: Any = None
        self._prefixes: Any = None

    def load(self) -> None:
        """Load tokenizer and weights from disk alone, and measure a few steps.

        Raises `BadModel`: ChatTemplateMissing, InsufficientMemory, EngineUnsupported, or
        ModelLoadFailed also when weights are missing or do not fit the configuration, which the
        library itself only warns of.
        """
        if not machine.count_gpus():
            _check_memory(self._dir)
        import torch

        transformers = _library()
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        # It would warn with tokens of prompts.
        logging.getLogger("ContinuousBatchingLogger").setLevel(logging.ERROR)
        # Only the batching thread is given helpers: with more threads than CPUs each would sleep
        # as soon as it waits, and be woken for each product (measured: a third fewer tokens).
        torch.set_num_threads(1)
        self.tokenizer = HfTokenizer(self._dir)
        model = _load_model(self._dir)
        model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self._ends = _end_tokens(model, self.tokenizer.end_token)
        self._start(model)
        self._threads = machine.choose_threads(self._threads, self._time_step)

    def _start(self, model: Any) -> None:
        from chatmodel_runtime.engines import torch_attention, torch_packing, torch_sampling

        blocks = _count_kv_tokens(model) // PAGE_TOKENS
        torch_packing.pack(model)
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        # One block is always in the making.
        self.context_tokens = min(longest or KV_TOKENS, (blocks - 1) * PAGE_TOKENS)
        try:
            self._manager = _build_manager(model, blocks)
        except (ValueError, AttributeError, NotImplementedError) as error:
            raise BadModel("EngineUnsupported", first_line(error)) from error
        self._sampler = torch_sampling.install_sampler(self._manager)
        self._prefixes = torch_sampling.SharedPrefixes(PAGE_TOKENS)
        self._manager.warmup()  # makes the cache, whose ledgers are guarded before the first use
        self._prefixes.install(self._manager)
        torch_attention.install(model)
        model.register_forward_pre_hook(self._before_step)
        model.register_forward_hook(self._after_step)
        self._manager.start()

    def _before_step(self, *_: Any) -> None:
        import torch

        self.pulse.begin()
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)  # each thread has its own number

    def _after_step(self, *_: Any) -> None:
        self.pulse.end()

    def _time_step(self, threads: int) -> float:
        """Return the seconds that one token of one request takes with so many threads."""
        self._threads = threads
        started = time.monotonic()
        asked = self._manager.add_request(
            self.tokenizer.encode("a b c d"), max_new_tokens=TRIED_TOKENS, eos_token_id=NO_END
        )
        done = asked and self._manager.get_result(asked)
        if not done or done.error:
            raise BadModel("ModelLoadFailed", "the model does not generate")
        return (time.monotonic() - started) / TRIED_TOKENS

    async def submit(self, request: Request) -> AsyncGenerator[Step]:
        """Generate until an end token or `max_tokens`; closing the generator cancels.

        Raises `EngineDead` and `BadOutput`.
        """
        outputs: asyncio.Queue[Any] = asyncio.Queue()
        name = uuid.uuid4().hex
        self._prefixes.begin(name, request)
        self._manager.register_result_handler(name, outputs.put_nowait)
        is_done, sent = False, 0
        try:
            if self._add(name, request) is None:
                raise EngineDead("the batching thread has ended")
            while not is_done:
                output = await outputs.get()
                if output.error is not None:
                    raise EngineDead("the batching thread has failed")
                if name in self._sampler.broken:
                    raise BadOutput("the model's output is not a number")
                is_done = output.is_finished()
                fresh, sent = output.generated_tokens[sent:], len(output.generated_tokens)
                yield self._step(fresh, is_done=is_done)
        finally:
            self._prefixes.end(name)
            self._sampler.broken.discard(name)
            self._manager.output_router.result_handlers.pop(name, None)
            if not is_done:
                self._manager.cancel_request(name)

    def _add(self, name: str, request: Request) -> str | None:
        sampling = request.sampling
        added: str | None = self._manager.add_request(
            request.prompt,
            request_id=name,
            max_new_tokens=request.max_tokens,
            streaming=True,
            eos_token_id=self._ends or NO_END,
            temperature=float(sampling.temperature),
            top_k=sampling.top_k,
            top_p=float(sampling.top_p),
        )
        return added

    def _step(self, tokens: list[int], *, is_done: bool) -> Step:
        if is_done and tokens and tokens[-1] in self._ends:
            return Step(tokens[:-1], "stop")
        return Step(tokens, "length" if is_done else None)

    def is_alive(self) -> bool:
        """Say whether the batching thread runs, and has not failed."""
        refusal = self._manager.background_thread_status.can_accept_new_requests()
        return bool(self._manager.is_running()) and refusal is None

    def close(self) -> None:
        """Stop the batching thread."""
        if self._manager is not None and self._manager.is_running():
            self._manager.stop(block=True, timeout=5, hard_stop=True)


def _check_memory(folder: pathlib.Path) -> None:
    """Refuse what cannot fit before any of it is loaded; once it is, its real size counts.

    Raises `BadModel` (InsufficientMemory).
    """
    config = folder / "config.json"
    shape = configs.read(config.name, config.read_bytes(), ()) if config.exists() else {}
    weights = sum(path.stat().st_size for path in folder.glob("model*.safetensors"))
    if (per_token := configs.kv_bytes_per_token(shape)) is not None:
        machine.kv_tokens(machine.memory_limit(), weights, per_token, wished=KV_TOKENS)


def _load_model(folder: pathlib.Path) -> Any:
    try:
        model, info = _library().AutoModelForCausalLM.from_pretrained(
            folder,
            dtype="auto",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are counted below, and refused with a number
        )
    except Exception as error:  # whatever a library raises on a bad file, the model is bad
        raise BadModel("ModelLoadFailed", first_line(error)) from error
    for fault in ("missing_keys", "mismatched_keys", "error_msgs"):
        if info.get(fault):
            word = fault.removesuffix("_keys").replace("_", " ")
            text = f"{len(info[fault])} tensors are {word}: the weights are not this model's"
            raise BadModel("ModelLoadFailed", text)
    return model


def _end_tokens(model: Any, of_tokenizer: int | None) -> list[int]:
    ends = model.generation_config.eos_token_id
    found = [*(ends if isinstance(ends, list) else [ends]), of_tokenizer]
    return sorted({end for end in found if end is not None})


def _count_kv_tokens(model: Any) -> int:
    """Return the tokens that the memory limit has room for; on a GPU, of what is free there."""
    import torch

    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * heads * size * model.dtype.itemsize
    if model.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return machine.kv_tokens(free, 0, per_token, wished=8 * KV_TOKENS)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return machine.kv_tokens(machine.memory_limit(), weights, per_token, wished=KV_TOKENS)


def _build_manager(model: Any, blocks: int) -> Any:
    transformers = _library()
    return model.init_continuous_batching(
        # Greedy for the library: our sampler lifts the chosen token.
        generation_config=transformers.GenerationConfig(
            do_sample=False, eos_token_id=NO_END, pad_token_id=0
        ),
        continuous_batching_config=transformers.ContinuousBatchingConfig(
            page_size=PAGE_TOKENS,
            num_blocks=blocks,
            max_batch_tokens=BATCH_TOKENS,
            max_requests_per_batch=MAX_ACTIVE,
            auto_switch_to_flash=model.device.type == "cuda",
        ),
    )


def _library() -> Any:
    """Return transformers; its types are too loose to be of help."""
    return importlib.import_module("transformers")
