"""The sampler of the transformers engine, and what its KV cache may keep for other requests.

Called by `engines.torch` alone, in the batching thread. Both hook into parts of the library that
are not public: the library is pinned, and `tests/unit/runtime/test_torch.py` holds what is used.
"""

import array
import functools
import hashlib
from typing import Any

import torch
from transformers.generation.continuous_batching import cb_logits_processors

from chatmodel_runtime.engines import Request

TOP = 64  # candidates that are looked at before the whole vocabulary is
NAME_BYTES = 32


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
    """Lets the KV cache keep blocks of system messages, and no other, for their owner's requests.

    A block kept after its request answers faster to whoever sends the same text again: patient data
    and questions are not given away like that, nor a client's own system message to another client.
    The library names a block by 8 bytes, for which who chooses the text finds a second text; here
    each request brings the names of its blocks, by a hash without known collisions.
    """

    def __init__(self, page_size: int) -> None:
        self._page = page_size
        self._names: dict[str, list[bytes]] = {}
        self._searching = ""

    def begin(self, request_id: str, request: Request) -> None:
        """Let the whole blocks of a request's system message be found and kept."""
        self._names[request_id] = name_blocks(request, self._page)

    def end(self, request_id: str) -> None:
        """Keep nothing more of a request."""
        self._names.pop(request_id, None)

    def install(self, manager: Any) -> None:
        """Take the place of how the manager's KV cache finds and keeps blocks."""
        cache = manager.batch_processor.cache
        search = cache.search_prefix_match

        def search_for(request_id: str, prompt: list[int]) -> int:
            self._searching = request_id  # the next call does not say it
            return int(search(request_id, prompt))

        cache.search_prefix_match = search_for
        for allocator in cache.cache_allocators.values():
            allocator.match_prefix_blocks = functools.partial(self._find, allocator)
            allocator.mark_complete_blocks = functools.partial(self._keep, allocator)

    def _find(self, allocator: Any, prompt: list[int]) -> list[int]:
        """Return the blocks that are kept of a prompt's beginning; one token at least is left."""
        found: list[int] = []
        most = (len(prompt) - 1) // self._page
        for name in self._names.get(self._searching, [])[:most]:
            block = allocator.ledger.hash_to_block.get(name)
            if block is None:
                break
            found.append(block)
        return found

    def _keep(self, allocator: Any, request_id: str, _: list[int], fresh: int) -> None:
        """Keep so many more blocks that were computed, as far as they are the system message's."""
        table, ledger = allocator.block_table[request_id], allocator.ledger
        named = list(zip(table, self._names.get(request_id, []), strict=False))
        new = [at for at, (block, _) in enumerate(named) if block not in ledger.block_to_hash]
        for at in new[:fresh]:
            block, name = named[at]
            same = ledger.register_new_hash(block, name)
            if same is not None:  # another request was faster: its block serves both
                ledger.acquire(same)
                table[at] = same
                if ledger.release(block):
                    allocator.pool.free_blocks(allocator.index, [block])


def name_blocks(request: Request, page: int) -> list[bytes]:
    """Return a name for each whole block of the system message.

    It stands for the owner and all tokens up to the block's end.
    """
    names, last = [], hashlib.blake2b(request.owner.encode(), digest_size=NAME_BYTES).digest()
    for start in range(0, request.shared - page + 1, page):
        tokens = array.array("q", request.prompt[start : start + page]).tobytes()
        last = hashlib.blake2b(last + tokens, digest_size=NAME_BYTES).digest()
        names.append(last)
    return names
