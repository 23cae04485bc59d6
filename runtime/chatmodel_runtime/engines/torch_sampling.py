"""The sampler of the transformers engine, and what its KV cache may keep for other requests.

Called by `engines.torch` alone, in the batching thread. Both hook into parts of the library that
are not public: the library is pinned, and `tests/unit/runtime/test_torch.py` holds what is used.
"""

from collections import OrderedDict
from typing import Any

import torch
from transformers.generation.continuous_batching import cb_logits_processors
from transformers.generation.continuous_batching.cache_allocators import cache_allocator

TOP = 64  # candidates that are looked at before the whole vocabulary is
REMEMBERED = 4096  # blocks of system messages


class Sampler(cb_logits_processors.ContinuousBatchingLogitsProcessor):
    """Temperature, top-k and top-p of each request in one pass.

    The stock processors sort the whole vocabulary for each request (85 ms a step of 16 requests and
    49,000 words; this takes 2 ms). The chosen token is lifted above all others, so that the
    library's own argmax takes it. A row whose top `TOP` tokens have less than top_p of the
    probability is sampled exactly, from the whole vocabulary.
    """

    def __init__(self) -> None:
        self.supported_kwargs = {"temperature": float, "top_k": int, "top_p": float}
        self.ignored_kwargs = ()
        self.broken: set[str] = set()  # requests whose scores were no numbers
        self._rows: list[tuple[str, float, int, float]] = []

    def fill_defaults(self, int32_tensor: Any) -> None:
        """Nothing is kept in the library's tensors."""
        int32_tensor.zero_()

    def prepare_tensor_args(self, requests_with_new_token: list[Any]) -> Any:
        """Note who is in the next step, in the order of its rows."""
        self._rows = []
        for request in requests_with_new_token:
            given = request.state.logit_processor_kwargs
            self._rows.append(
                (
                    request.state.request_id,
                    given.get("temperature", 0.0),
                    given.get("top_k", 0),
                    given.get("top_p", 1.0),
                )
            )
        return torch.zeros(len(self._rows), dtype=torch.int32)

    def __call__(self, scores: Any, tensor_arg: Any) -> Any:
        """Lift each sampled row's token; greedy rows are left to the library's argmax."""
        count = min(len(self._rows), scores.shape[0])
        highest = scores[:count].amax(dim=-1)  # NaN where any score is
        for row in torch.nonzero(~torch.isfinite(highest)).flatten().tolist():
            self.broken.add(self._rows[row][0])
            scores[row].zero_()
        drawn = [row for row in range(count) if self._rows[row][1] > 0]
        if drawn:
            chosen = self._draw(scores[drawn], [self._rows[row][1:] for row in drawn])
            scores[drawn, chosen] = float("inf")
        return scores

    def _draw(self, scores: Any, settings: list[tuple[float, int, float]]) -> Any:
        """Return a token for each row of scores [rows, vocabulary]."""
        given = torch.tensor(settings, dtype=torch.float32, device=scores.device)
        temperature, top_k, top_p = given[:, :1].clamp_min(1e-5), given[:, 1:2], given[:, 2:3]
        size = scores.shape[-1]
        top_k = torch.where((top_k <= 0) | (top_k > size), float(size), top_k)
        scaled = scores.float() / temperature
        top, where = scaled.topk(min(TOP, size), dim=-1)
        # Of what top-k leaves: all of it lies in the top, unless top-k reaches beyond.
        inside = torch.arange(top.shape[-1], device=scores.device) < top_k
        whole = torch.where(
            top_k > top.shape[-1],
            scaled.logsumexp(-1, keepdim=True),
            top.masked_fill(~inside, -torch.inf).logsumexp(-1, keepdim=True),
        )
        shares = (top - whole).exp() * inside
        before = shares.cumsum(-1) - shares
        # Exponential race: the largest of share / Exp(1) is a draw by shares.
        race = shares * (before < top_p) / torch.empty_like(shares).exponential_()
        chosen = where.gather(1, race.argmax(-1, keepdim=True)).squeeze(1)
        short = (shares.sum(-1, keepdim=True) < top_p) & (top_k > top.shape[-1])
        for row in torch.nonzero(short.squeeze(1)).flatten().tolist():
            chosen[row] = _draw_exactly(scaled[row], int(top_k[row]), float(top_p[row]))
        return chosen


def _draw_exactly(scaled: Any, top_k: int, top_p: float) -> Any:
    ranked, where = scaled.topk(top_k)
    shares = ranked.softmax(-1)
    before = shares.cumsum(-1) - shares
    return where[torch.multinomial(shares * (before < top_p), 1)[0]]


def install_sampler(manager: Any) -> Sampler:
    """Put the sampler in the place of the library's processors; before the manager starts."""
    sampler = Sampler()
    processors = manager.logit_processor
    processors.logits_processor[:] = [sampler]
    processors.tensors_required = 1
    processors.do_processing = True
    processors._retrieve_processors_kwargs()
    return sampler


class SharedPrefixes:
    """Lets the KV cache keep blocks of system messages, and no other, for later requests.

    A block kept after its request would answer faster to whoever sends the same text again: patient
    data and questions are not given away like that.
    """

    def __init__(self, page_size: int) -> None:
        self._page = page_size
        self._known: OrderedDict[int, None] = OrderedDict()

    def remember(self, tokens: list[int]) -> None:
        """Let the whole blocks of a system message's tokens be kept."""
        parent = None
        for start in range(0, len(tokens) - self._page + 1, self._page):
            parent = cache_allocator.compute_block_hash(parent, tokens[start : start + self._page])
            self._known[parent] = None
            self._known.move_to_end(parent)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def install(self, manager: Any) -> None:
        """Guard the ledgers of the manager's KV cache."""
        for allocator in manager.batch_processor.cache.cache_allocators.values():
            self._guard(allocator.ledger)

    def _guard(self, ledger: Any) -> None:
        register = ledger.register_new_hash

        def register_known(block_id: int, block_hash: int) -> int | None:
            known = block_hash in self._known
            return register(block_id, block_hash) if known else None

        ledger.register_new_hash = register_known
