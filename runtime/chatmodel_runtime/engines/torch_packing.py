"""The weights of the transformers engine, laid out once as the processor multiplies them.

Called by `engines.torch` alone. Torch has no public call for it: the operators used here are those
of its own compiler, and `tests/unit/runtime/test_torch_products.py` holds them.
"""

from typing import Any

import torch

_ROWS = 16  # the layout hardly depends on how many rows are multiplied


class PackedLinear(torch.nn.Module):
    """A linear layer whose weight is kept in oneDNN's own layout.

    Of a plain weight oneDNN makes that layout anew for every product. Measured with SmolLM2-135M on
    one thread with AMX: all products of a step of one row take 27 ms instead of 41, of 16 rows 24
    instead of 37.
    """

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        self.bias = linear.bias

    @property
    def weight(self) -> Any:
        """The plain weight, made anew each time: for models whose own code asks for it."""
        return self.packed.to_dense()

    def forward(self, x: Any) -> Any:
        """Return what the linear layer returns."""
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


def pack(model: Any) -> None:
    """Pack the linear layers of a bfloat16 model on a CPU, one after another; others stay.

    A head that shares its weight with the embeddings stays as well: it would be there twice. The
    file of the weights is let go of: what is left in it is copied, so that all of it is held once.
    """
    if model.device.type != "cpu" or model.dtype != torch.bfloat16:
        return
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return
    shared = model.get_input_embeddings().weight
    names = [name for name, module in model.named_modules() if type(module) is torch.nn.Linear]
    for name in names:
        if model.get_submodule(name).weight is not shared:
            model.set_submodule(name, PackedLinear(model.get_submodule(name)))
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
