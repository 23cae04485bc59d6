"""Attention of the transformers engine on a CPU, for each request of a step by itself.

Called by `engines.torch` alone. The library's own takes all requests of a step for one sequence and
masks what they must not see of each other, which grows with the square of their number.
"""

from typing import Any

import torch
import transformers
from transformers.integrations import sdpa_attention

NAME = "sdpa_by_request"


def install(model: Any) -> None:
    """Take the place of the library's `sdpa` on a CPU; after the manager has made its cache."""
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        transformers.AttentionInterface.register(NAME, attend)
        model.set_attn_implementation(NAME)


def attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **given: Any
) -> tuple[Any, None]:
    """Return what each query sees of its own request; states are [1, heads, tokens, size]."""
    key, value = given.pop("cache").update(key, value, module.layer_idx, given)
    at_q, at_k = given["cu_seq_lens_q"].tolist(), given["cu_seq_lens_k"].tolist()
    if len(at_q) == 2:  # from 0 to the end: a single request
        return _attend(module, query, key, value, attention_mask, **given), None
    seen = []
    for q, q_end, k, k_end in zip(at_q, at_q[1:], at_k, at_k[1:], strict=False):
        states = query[:, :, q:q_end], key[:, :, k:k_end], value[:, :, k:k_end]
        seen.append(_attend(module, *states, attention_mask[:, :, q:q_end, k:k_end], **given))
    return torch.cat(seen, dim=1), None


def _attend(*states: Any, **given: Any) -> Any:
    return sdpa_attention.sdpa_attention_forward(*states, **given)[0]
