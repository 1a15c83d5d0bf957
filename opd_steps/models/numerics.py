"""In which dtype a model's weights are held, computed with and published, and what of a forward pass is kept for the backward one.

Weights that are trained stay in fp32, and AdamW's moments with them: an update of lr 1e-6 is far below what a bf16 weight can take.
Products are of bf16 numbers all the same: by autocast, so that gradients come out in fp32 (several processes: FSDP2 casts what it
gathers, and sums gradients in fp32).
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from opd_steps.process import ranks


@dataclass(frozen=True)
class Numerics:
    """weights    dtype that the weights are held in; "float32" or "bfloat16", as all below
    compute    dtype that they are multiplied in
    published  dtype of the files of a trained model; None: as the weights are held
    attention  transformers' name of the implementation; None: its choice
    recompute  keep each block's input alone for the backward pass, and run the block again there
    packed     rows stand one behind the other, without padding, where the model can read them so (models.packing)
    """

    weights: str = "float32"
    compute: str = "float32"
    published: str | None = None
    attention: str | None = None
    recompute: bool = False
    packed: bool = False

    @classmethod
    def trained(cls, options: dict) -> Numerics:
        """Of what a training node trains."""
        names = ("weights", "dtype", "published", "attention", "recompute", "packed")
        return cls(*(options[name] for name in names))

    @classmethod
    def frozen(cls, options: dict, dtype: str | None = None) -> Numerics:
        """Of a model that a node only reads; `dtype`: instead of the node's own."""
        found = dtype or options.get("dtype", cls.compute)
        return cls(found, found, attention=options.get("attention"), packed=options.get("packed", False))


FP32 = Numerics()


def dtype_of(name: str) -> torch.dtype:
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]


def computing(model: nn.Module, dtype: torch.dtype) -> AbstractContextManager:
    """Meanwhile products of the model's weights are computed in `dtype`, and differentiable; nothing where they are held in it, or
    a sharded model gathers them in it.
    """
    first = next(model.parameters())
    return nullcontext() if first.dtype == dtype or ranks.is_sharded(model) else torch.autocast(first.device.type, dtype)


def multiplied(hidden: Tensor, weight: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The factors of a product that is summed in fp32, as they enter it: in `dtype` on a GPU. A CPU has no such product of bf16 numbers."""
    if hidden.is_cuda and weight.dtype != dtype:
        return hidden.to(dtype), weight.to(dtype)
    return hidden, weight


def cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A frozen copy of a model with its weights in `dtype`; the model itself where they are. Buffers stay, tied weights stay tied."""
    if next(model.parameters()).dtype == dtype:
        return model
    held = {id(p): nn.Parameter(p.detach().to(dtype), requires_grad=False) for p in model.parameters()}
    return copy.deepcopy(model, held)  # in which deepcopy finds each parameter copied already


def recompute_blocks(model: nn.Module) -> None:
    """Have the model's blocks (its `_no_split_modules`) keep their input alone for the backward pass."""
    for block in ranks.blocks(model):
        block.forward = partial(_run, block.forward)


def _run(forward, *args, **kwargs):
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
