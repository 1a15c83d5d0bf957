"""A value head of experts: what a discriminator says of a text at one of its tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ExpertHead(nn.Module):
    """s(h) = w ( h + sum over the `active` likeliest experts e of g_e MLP_e(h) ),   g = softmax(R h), renormalised over those.

    As a dense model is upcycled (PRISM, arXiv 2604.28123): each MLP is a copy of one, plus noise of `noise` times its spread;
    the router R is random.
    """

    def __init__(self, width: int, experts: int, active: int, noise: float, seed: int):
        super().__init__()
        self.active = active
        draw = torch.Generator().manual_seed(seed)
        random = lambda *shape: torch.randn(*shape, generator=draw) / shape[-1] ** 0.5
        copies = lambda one: one + noise * one.std() * torch.randn(experts, *one.shape, generator=draw)
        self.up_EMD, self.down_EDM = (
            nn.Parameter(copies(random(2 * width, width))),
            nn.Parameter(copies(random(width, 2 * width))),
        )
        self.router_ED, self.value_D = nn.Parameter(random(experts, width)), nn.Parameter(random(width))

    def forward(self, h_ND: Tensor) -> tuple[Tensor, Tensor]:
        """(scores [N], the router's probabilities [N, E])."""
        prob_NE = (h_ND @ self.router_ED.T).softmax(-1)
        kept_NE = prob_NE.masked_fill(prob_NE < prob_NE.topk(self.active, -1).values[:, -1:], 0.0)
        gate_NE = kept_NE / kept_NE.sum(-1, keepdim=True)
        inner_NEM = nn.functional.silu(torch.einsum("nd,emd->nem", h_ND, self.up_EMD))
        mixed_ND = torch.einsum("ne,nem,edm->nd", gate_NE, inner_NEM, self.down_EDM)
        return (h_ND + mixed_ND) @ self.value_D, prob_NE


def imbalance_N(prob_NE: Tensor, active: int) -> Tensor:
    """E sum_e f_e p_e / active of each token, f_e the share of tokens for which e is among the `active` likeliest: 1 on average where
    all experts get as much, up to E / active where one set gets all (arXiv 2101.03961)."""
    chosen_NE = torch.zeros_like(prob_NE).scatter(1, prob_NE.topk(active, -1).indices, 1.0)
    return prob_NE.shape[1] * (prob_NE * chosen_NE.mean(0)).sum(-1) / active
