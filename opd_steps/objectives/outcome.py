"""Outcome rewards of whole rows: group advantages (GRPO and its variants), length penalty, the k3 anchor."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory


def outcome_B(rows: Trajectory, method: dict) -> Tensor:
    """The advantage of each row among those of its prompt by one sampler, as a method's options say; unjudged rows count 0. [B]"""
    sources, groups = rows.extra.get("source", [""] * len(rows)), rows.extra.get("group", rows.prompt_B)
    keys = list(zip(sources, groups.tolist() if isinstance(groups, Tensor) else groups, strict=True))
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    reward_B = rows.reward_B.where(~rows.reward_B.isnan(), 0.0)
    group_B = torch.tensor([number[key] for key in keys])
    return group_advantage(reward_B, group_B, method["advantage"], method["divide_by_std"])


def grpo_B(rows: Trajectory, group_B: Tensor, options: dict) -> Tensor:
    """Advantage of each judged row in its group, by the rewards and the length penalty of an rl node's options. [B]"""
    low, high = options["rewards"]
    reward_B = low + (high - low) * rows.reward_B
    if options["overlong_buffer"]:
        reward_B = reward_B + soft_overlong(rows.length_B, options["sampling"]["max_new_tokens"], options["overlong_buffer"])
    return group_advantage(reward_B, group_B, options["advantage"], options["divide_by_std"])


def trained_on(rows: Trajectory, group_B: Tensor) -> dict[str, float]:
    """silent_trained: share of the step's groups without spread; wrong_length: mean tokens of wrong answers, where there are any."""
    wrong_B = rows.reward_B < 0.5
    found = {"silent_trained": float(silent_groups(rows.reward_B, group_B).float().mean())}
    return found | ({"wrong_length": float(rows.length_B[wrong_B].float().mean())} if wrong_B.any() else {})


def group_advantage(
    reward_B: Tensor, group_B: Tensor, kind: Literal["group_mean", "leave_one_out"] = "group_mean", divide_by_std: bool = True
) -> Tensor:
    """Advantage of each row among the rows of its group, [B].

    group_mean     A_i = r_i - mean(r)                          (GRPO, arXiv 2402.03300)
    leave_one_out  A_i = r_i - (sum(r) - r_i) / (G - 1)         (arXiv 2402.14740)
    divide_by_std  A_i / (std(r) + 1e-6), unbiased std          (off: Dr.GRPO, arXiv 2503.20783)

    A group of one has mean 0 and std 1; a group without spread has exactly 0.
    """
    index_B, size_G = _groups(group_B)
    size_B = size_G[index_B].to(reward_B.dtype)
    alone_B = size_B == 1
    others_B = (size_B - 1).clamp(min=1)
    mean_B = _total(reward_B, index_B, size_G) / size_B
    deviation_B = reward_B - mean_B
    if kind == "leave_one_out":
        advantage_B = deviation_B * size_B / others_B
    else:
        advantage_B = deviation_B
    advantage_B = torch.where(alone_B, reward_B, advantage_B)
    if divide_by_std:
        std_B = (_total(deviation_B.square(), index_B, size_G) / others_B).sqrt()
        advantage_B = advantage_B / (torch.where(alone_B, 1.0, std_B) + 1e-6)
    return advantage_B.masked_fill(silent_groups(reward_B, group_B), 0.0)


def silent_groups(reward_B: Tensor, group_B: Tensor) -> Tensor:
    """True on rows whose group (of two or more) has equal rewards everywhere: they carry no gradient. [B] bool."""
    index_B, size_G = _groups(group_B)
    low_G, high_G = (
        reward_B.new_zeros(len(size_G)).scatter_reduce(0, index_B, reward_B, how, include_self=False)
        for how in ("amin", "amax")
    )
    return ((low_G == high_G) & (size_G > 1))[index_B]


def soft_overlong(length_B: Tensor, max_len: int, buffer: int) -> Tensor:
    """DAPO's length penalty (arXiv 2503.14476): 0 up to max_len - buffer, linear to -1 at max_len. [B]; buffer 0: off."""
    if not buffer:
        return torch.zeros(length_B.shape)
    return ((max_len - buffer - length_B) / buffer).clamp(-1, 0)


def kl_k3(logq_N: Tensor, logr_N: Tensor) -> Tensor:
    """exp(d) - 1 - d, d = log r - log q: value estimate of KL(q||r) on samples of q, >= 0; `logr_N` is detached."""
    d_N = logr_N.detach() - logq_N
    return torch.expm1(d_N) - d_N


def _groups(group_B: Tensor) -> tuple[Tensor, Tensor]:
    _, index_B, size_G = group_B.unique(return_inverse=True, return_counts=True)
    return index_B, size_G


def _total(value_B: Tensor, index_B: Tensor, size_G: Tensor) -> Tensor:
    return value_B.new_zeros(len(size_G)).index_add(0, index_B, value_B)[index_B]
