"""AdamW, its learning-rate schedules, and the gradient figures that come for free with it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from opd_steps.loop.adam8 import MOMENTS, AdamW8
from opd_steps.process import ranks


def make_optimizer(model: nn.Module, options: dict) -> torch.optim.Optimizer:
    """AdamW over the trainable parameters; weight decay on matrices alone."""
    groups = decayed(model.parameters(), options["weight_decay"])
    if options["eight_bit"]:
        return AdamW8(groups, lr=options["lr"], betas=tuple(options["betas"]), eps=options["eps"])
    # fused: one pass over parameters, gradients and moments, without copies of them
    return torch.optim.AdamW(groups, lr=options["lr"], betas=tuple(options["betas"]), eps=options["eps"], fused=True)


def decayed(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict]:
    """Groups of the trainable ones: matrices, which decay, and the rest, which does not."""
    params = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in params if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
    ]


def learning_rate(step: int, steps: int, options: dict) -> float:
    """Learning rate of optimizer step `step` (from 1): linear warm-up over a share of the steps, then the schedule to 0."""
    warm = options["warmup"] * steps
    if step <= warm:
        return options["lr"] * step / max(warm, 1)
    rest = (step - warm - 1) / max(steps - warm, 1)
    factor = {"constant": 1.0, "linear": 1 - rest, "cosine": 0.5 * (1 + math.cos(math.pi * rest))}[options["schedule"]]
    return options["lr"] * factor


def blank(optimizer: torch.optim.Optimizer, p: nn.Parameter) -> dict[str, Tensor]:
    """Tensors of the shapes and types of what an optimizer holds of a weight, beside the number of its updates."""
    return optimizer.blank(p) if isinstance(optimizer, AdamW8) else dict.fromkeys(MOMENTS, p)


def clip_gradient(optimizer: torch.optim.Optimizer, options: dict) -> float:
    """Clip the gradient in place; returns its norm before."""
    params = [p for g in optimizer.param_groups for p in g["params"]]
    return float(ranks.full(torch.nn.utils.clip_grad_norm_(params, options["clip"] or math.inf)))


def apply_gradient(optimizer: torch.optim.Optimizer, step: int, steps: int, options: dict) -> dict[str, float]:
    """One optimizer step: set the learning rate, update. Returns lr. The gradient is still there."""
    lr = learning_rate(step, steps, options)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    return {"lr": lr}


@torch.no_grad()
def gradient_variance(optimizer: torch.optim.Optimizer) -> float:
    """Total variance of the (clipped) gradient as Adam's moments see it: sum_j max(v_j / bc2 - (m_j / bc1)^2, 0) (arXiv 2605.07865)."""
    total = 0.0
    for group in optimizer.param_groups:
        b1, b2 = group["betas"]
        for p in group["params"]:
            if state := optimizer.state.get(p):
                t = float(state["step"])
                mean, square = optimizer.moments(p) if isinstance(optimizer, AdamW8) else (state[name] for name in MOMENTS)
                total += float(ranks.full((square / (1 - b2**t) - (mean / (1 - b1**t)).square()).clamp(min=0).sum()))
    return total
