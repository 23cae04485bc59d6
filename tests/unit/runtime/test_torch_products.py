"""What the transformers engine computes in a way of its own: products and attention."""

import asyncio
import contextlib
import json
import pathlib
import shutil
import types
from collections.abc import Iterator
from typing import Any

import models
import pytest

from chatmodel_runtime.engines import Request
from chatmodel_runtime.engines.torch import TorchEngine

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.skipif(
        not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU packs no bfloat16"
    ),
]


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return the stand-in in bfloat16."""
    from safetensors.torch import load_file, save_file

    stand_in = models.made("qwen", models.make_qwen)
    copy = pathlib.Path(shutil.copytree(stand_in, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    weights = load_file(copy / "model.safetensors")
    half = {name: tensor.bfloat16() for name, tensor in weights.items()}
    save_file(half, copy / "model.safetensors", {"format": "pt"})
    return copy


@pytest.fixture
def engine(folder: pathlib.Path) -> Iterator[TorchEngine]:
    loaded = TorchEngine(folder)
    loaded.load()
    yield loaded
    loaded.close()


async def collect(engine: TorchEngine, asked: Request) -> list[int]:
    async with contextlib.aclosing(engine.submit(asked)) as steps:
        return [token async for step in steps for token in step.tokens]


async def test_a_bfloat16_model_answers_with_packed_weights_and_its_file_is_let_go(
    engine: TorchEngine, folder: pathlib.Path
) -> None:
    from chatmodel_runtime.engines.torch_packing import PackedLinear

    model = engine._manager.model
    linear = [m for m in model.modules() if type(m) is torch.nn.Linear]
    assert linear == [model.lm_head]  # it shares its weight with the embeddings
    assert sum(isinstance(m, PackedLinear) for m in model.modules()) == 14
    assert str(folder) not in pathlib.Path("/proc/self/maps").read_text()
    asked = [Request(engine.tokenizer.encode(f"question {n}"), 12) for n in range(5)]
    alone = [await collect(engine, one) for one in asked]
    together = await asyncio.gather(*(collect(engine, one) for one in asked))
    assert [tokens[0] for tokens in together] == [tokens[0] for tokens in alone]


@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_gives_what_the_plain_one_gives(rows: int, bias: bool) -> None:
    from chatmodel_runtime.engines.torch_packing import PackedLinear

    plain = torch.nn.Linear(96, 40, bias=bias, dtype=torch.bfloat16).requires_grad_(False)
    packed = PackedLinear(plain)
    given = torch.randn(1, rows, 96, dtype=torch.bfloat16)
    torch.testing.assert_close(packed(given), plain(given))
    assert torch.equal(packed.weight, plain.weight)


def test_a_model_in_32_bits_stays_as_it_is() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from chatmodel_runtime.engines import torch_packing

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=32, num_attention_heads=2, **sizes))
    before = [id(module) for module in model.modules()]
    torch_packing.pack(model)
    assert [id(module) for module in model.modules()] == before


class Cache:
    """All states are in the call."""

    def update(self, key: Any, value: Any, *_: Any) -> Any:
        return key, value


@pytest.mark.parametrize(
    "lengths", [[(1, 9), (5, 5), (1, 4), (3, 8)], [(4, 7)]], ids=["several", "one"]
)
def test_each_request_of_a_step_sees_what_the_library_lets_it_see(
    lengths: list[tuple[int, int]],
) -> None:
    """New tokens and all tokens of each."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    from chatmodel_runtime.engines import torch_attention

    module = types.SimpleNamespace(layer_idx=0, num_key_value_groups=2, is_causal=True)
    at_q = torch.tensor([0, *(q for q, _ in lengths)]).cumsum(0)
    at_k = torch.tensor([0, *(k for _, k in lengths)]).cumsum(0)
    query = torch.randn(1, 4, int(at_q[-1]), 8)
    key, value = torch.randn(2, 1, 2, int(at_k[-1]), 8)
    mask = torch.full((1, 1, int(at_q[-1]), int(at_k[-1])), torch.finfo(torch.float32).min)
    for number, (q, k) in enumerate(lengths):
        rows = slice(int(at_q[number]), int(at_q[number + 1]))
        mask[..., rows, int(at_k[number]) : int(at_k[number + 1])].triu_(k - q + 1)
    lengths_given = {"cu_seq_lens_q": at_q, "cu_seq_lens_k": at_k}
    expected, _ = sdpa_attention_forward(module, query, key, value, mask)
    found, _ = torch_attention.attend(
        module, query, key, value, mask, cache=Cache(), **lengths_given
    )
    torch.testing.assert_close(found, expected)
