"""A teacher of another width whose hidden states are seen in a few of their directions, in which the student's are read as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.nouns.hidden import HiddenStates
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.teachers.view import ModelTeacher

Pair = tuple[int, int]
"""(the student's layer, the teacher's)."""


class Moments:
    """First and second moments of pairs (h_S [n, d_S], h_T [n, d_T]) of hidden states, fp64: all that a bridge is made of."""

    def __init__(self) -> None:
        self.count, self.sums, self.products, self.width = 0, 0.0, 0.0, 0

    def add(self, own_ND: Tensor, other_ND: Tensor) -> None:
        x_ND = torch.cat([own_ND.double().cpu(), other_ND.double().cpu()], -1)
        self.count, self.width = self.count + len(x_ND), own_ND.shape[-1]
        self.sums, self.products = self.sums + x_ND.sum(0), self.products + x_ND.T @ x_ND

    @property
    def mean(self) -> Tensor:
        """E h_T, [d_T]."""
        return self.sums[self.width :] / self.count

    def with_centred(self, rows: slice) -> Tensor:
        """E x (h_T - E h_T)^T for a part x of the pair, [its width, d_T]."""
        return self.products[rows, self.width :] / self.count - torch.outer(self.sums[rows] / self.count, self.mean)

    def basis(self, rank: int) -> Tensor:
        """P_T [rank, d_T]: the first principal directions of h_T."""
        return torch.linalg.eigh(self.with_centred(slice(self.width, None))).eigenvectors.T.flip(0)[:rank]

    def reader(self, basis_RD: Tensor) -> Tensor:
        """P_S [rank, d_S] = argmin E |P_S h_S - P_T (h_T - E h_T)|^2; of several, the smallest."""
        own = slice(0, self.width)
        inverse_DD = torch.linalg.pinv(self.products[own, own] / self.count, hermitian=True)
        return (inverse_DD @ self.with_centred(own) @ basis_RD.T).T


@dataclass(frozen=True)
class BridgedTeacher(ModelTeacher):
    """Its layers say z_T = P_T (h_T - mean); a student's state is read as P_S h_S.

    bases     (P_T, mean) by the teacher's layer
    readers   P_S by pair
    """

    bases: Mapping[int, tuple[Tensor, Tensor]]
    readers: Mapping[Pair, Tensor]

    @classmethod
    def over(cls, policy, moments: Mapping[Pair, Moments], rank: int) -> BridgedTeacher:
        bases = {}
        for (_, t), found in moments.items():
            bases.setdefault(t, (found.basis(rank), found.mean))
        readers = {pair: found.reader(bases[pair[1]][0]) for pair, found in moments.items()}
        to = lambda tensor: tensor.to(policy.device, torch.float32)
        return cls(policy, {t: (to(p), to(m)) for t, (p, m) in bases.items()}, {pair: to(p) for pair, p in readers.items()})

    def dist(self, trajectory: Trajectory, role: str, asks: Asks = NOTHING) -> HiddenStates:
        layers = self.policy.dist(trajectory, role, asks).layers
        seen = {t: (layers[t].float() - mean_D) @ basis_RD.T for t, (basis_RD, mean_D) in self.bases.items()}
        return HiddenStates(seen, self.readers)
