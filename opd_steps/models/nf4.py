"""Frozen weights in four bits, NormalFloat (QLoRA, arXiv 2305.14314): each block of them is a scale and the nearest of 16 values.

w ~ scale * VALUES[i], scale = max |w| of the block: half a byte a weight and 4 bytes a block. The weight is made whole again for each
product, forwards and backwards, and is gone after it.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, pad

# quantiles of a normal distribution, those of both halves with 0 between them, scaled to [-1, 1] (appendix E there)
VALUES = torch.tensor(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
        *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
        *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ]
)
_BETWEEN = (VALUES[1:] + VALUES[:-1]) / 2
_PAIRS = torch.cartesian_prod(VALUES, VALUES)  # the two values that a byte stands for


@cache
def _pairs(device: torch.device) -> Tensor:
    return _PAIRS.to(device)


def quantised(weight: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """(two weights a byte, the first in its upper half; a scale a block), of the weight's rows one behind the other, filled up with 0."""
    flat = weight.detach().float().flatten()
    blocks_NB = pad(flat, (0, -len(flat) % block)).view(-1, block)
    scale_N = blocks_NB.abs().amax(1)
    shares = blocks_NB / torch.where(scale_N > 0, scale_N, 1)[:, None]
    number = torch.bucketize(shares.flatten(), _BETWEEN.to(flat.device)).to(torch.uint8)
    return (number[::2] << 4) | number[1::2], scale_N


def dense(packed: Tensor, scale_N: Tensor, shape: torch.Size) -> Tensor:
    """The weight that is meant, in fp32."""
    values = embedding(packed.int(), _pairs(packed.device)).view(len(scale_N), -1) * scale_N[:, None]
    return values.flatten()[: shape.numel()].view(shape)


def rounded(weight: Tensor, block: int, dtype: torch.dtype) -> Tensor:
    """What a layer computes with whose weight in `dtype` was quantised, in the weight's own dtype."""
    return dense(*quantised(weight.to(dtype), block), weight.shape).to(dtype).to(weight.dtype)


class Nf4(nn.Module):
    """A frozen linear layer whose weight is held in four bits; `dtype`: that of the weight that it was made of."""

    def __init__(self, layer: nn.Linear, block: int):
        super().__init__()
        self.shape, self.dtype, self.block = layer.weight.shape, layer.weight.dtype, block
        self.out_features, self.in_features = self.shape
        packed, scale = quantised(layer.weight, block)
        self.register_buffer("packed", packed, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.bias = layer.bias

    def dense(self, dtype: torch.dtype) -> Tensor:
        return dense(self.packed, self.scale, self.shape).to(self.dtype).to(dtype)

    def whole(self) -> nn.Linear:
        """The layer with the weight that it computes with, in fp32 or bf16 as it was."""
        made = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        made.weight = nn.Parameter(self.dense(self.dtype), requires_grad=False)
        made.bias = self.bias
        return made

    def forward(self, x: Tensor) -> Tensor:
        return _Product.apply(x, self)


class _Product(torch.autograd.Function):
    """x W' + b, of which nothing but the layer is kept."""

    @staticmethod
    def forward(ctx, x: Tensor, layer: Nf4) -> Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return linear(x, layer.dense(x.dtype), layer.bias)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return (grad @ ctx.layer.dense(grad.dtype)).to(ctx.dtype), None
