"""Two checkpoints side by side, parameter by parameter."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import Tensor, nn

from opd_steps.errors import UserError

MODULES = {
    "norm": re.compile(r"norm|\bln_"),
    "embedding": re.compile(r"embed|lm_head|\bwte\b|\bwpe\b"),
    "attention": re.compile(r"att(n|ention)"),
    "mlp": re.compile(r"mlp|ffn|feed_forward|expert|moe"),
}
"""Module types by parameter name, in the names of transformers; the first that fits counts (a q_norm is a norm)."""


def module_of(name: str) -> str:
    """norm, embedding, attention, mlp, or "rest"."""
    return next((kind for kind, pattern in MODULES.items() if pattern.search(name)), "rest")


def paired_weights(model: nn.Module, start: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    """(name, start's weight, model's weight), fp32, of every parameter; tied weights once.

    Raises UserError when the two are not the same architecture.
    """
    now, before = dict(model.named_parameters()), dict(start.named_parameters())
    for name in sorted(now.keys() | before.keys()):
        shapes = [tuple(side[name].shape) if name in side else "none" for side in (now, before)]
        if shapes[0] != shapes[1]:
            raise UserError("analyze.other", f"its weights are not those of the model: {name} is {shapes[1]} and {shapes[0]}")
    for name, weight in before.items():
        yield name, weight.float(), now[name].float()


def matrices(tensor: Tensor) -> list[Tensor]:
    """The matrices of a parameter: itself, those of a stack of experts, none of a vector."""
    return list(tensor.reshape(-1, *tensor.shape[-2:])) if tensor.dim() > 1 else []
