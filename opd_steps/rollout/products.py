"""Products of few rows with large weights on a CPU, which decoding is made of.

BLAS lays a weight out anew in every product: with few rows that takes longer than the product. oneDNN lays it out once. What comes out
differs by rounding, so small weights, where calls are what takes time, stay with the product that the model itself uses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn.functional import linear

LARGE = 1 << 16  # entries of a weight above which it is worth it
TOKENS = 16  # new tokens that are: laying a weight out takes as long as six products of 8 rows save

Product = Callable[[Tensor], Tensor]


def product(weight_OI: Tensor, bias_O: Tensor | None, new: int) -> Product:
    """x_BI -> x_BI @ weight_OI.T + bias_O, for about `new` calls; the weight must stay as it is meanwhile. Nothing is differentiable."""
    if new < TOKENS or weight_OI.numel() <= LARGE or weight_OI.is_cuda or not _lays_out(weight_OI.dtype):
        return partial(linear, weight=weight_OI, bias=bias_O)
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach(), None)
    bias_O = None if bias_O is None else bias_O.detach()
    return lambda x_BI: torch.ops.mkldnn._linear_pointwise(x_BI, laid_out, bias_O, "none", [], "")


@cache
def _lays_out(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    return dtype is torch.float32 or (dtype is torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
