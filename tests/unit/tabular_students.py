"""Students of limited capacity on a Markov chain: low-rank bigram logits, state distributions and divergences all exact. fp64.

A batch of S chains (seeds) trains at once; they don't interact, as Adam works element by element.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Stream
from tests.estimator_table.measure import normal, stream

V, T, RANK, LR = 16, 8, 3, 0.05
REVERSE, FORWARD = (stream(estimator="exact", support="full", signal=s) for s in ("rkl", "fkl"))


def occupancy(logp_SVV: Tensor) -> Tensor:
    """Share of time in each state over T steps of the chain, from a uniform start, [S, V]. Detached."""
    step_SVV = logp_SVV.detach().exp()
    now_SV = torch.full(step_SVV.shape[:2], 1 / step_SVV.shape[-1], dtype=step_SVV.dtype)
    total_SV = torch.zeros_like(now_SV)
    for _ in range(T):
        total_SV = total_SV + now_SV
        now_SV = torch.einsum("su,suv->sv", now_SV, step_SVV)
    return total_SV / T


def objective(term: Stream, logits_SVV: Tensor, teacher_SVV: Tensor, weight_SV: Tensor) -> Tensor:
    """The expectation of a stream's loss over states, [S]."""
    vocab = logits_SVV.shape[-1]
    action_N = torch.zeros(logits_SVV[..., 0].numel(), dtype=torch.long)
    evidence = Evidence(action_N, teacher=Categorical(teacher_SVV.reshape(-1, vocab)))
    loss_N, _ = term.loss(Categorical.from_logits(logits_SVV.reshape(-1, vocab)), evidence)
    return (loss_N.reshape(weight_SV.shape) * weight_SV).sum(-1)


@dataclass(frozen=True)
class Student:
    """logits = left @ right + bias, of rank RANK and a bias per token: it can't be the teacher."""

    left_SVR: Tensor
    right_SRV: Tensor
    bias_S1V: Tensor

    @classmethod
    def fresh(cls, seeds: int) -> Student:
        left, right = (0.1 * normal(seeds, *shape, name=f"{shape}") for shape in ((V, RANK), (RANK, V)))
        return cls(left, right, torch.zeros(seeds, 1, V, dtype=torch.float64))

    @property
    def logits_SVV(self) -> Tensor:
        return self.left_SVR @ self.right_SRV + self.bias_S1V

    def trained(self, term: Stream, prefixes: str, teacher_SVV: Tensor, steps: int) -> Student:
        """After `steps` of Adam on the stream, at states of the "student" or the "teacher"."""
        new = Student(*(x.clone().requires_grad_() for x in (self.left_SVR, self.right_SRV, self.bias_S1V)))
        optimizer = torch.optim.Adam([new.left_SVR, new.right_SRV, new.bias_S1V], lr=LR)
        for _ in range(steps):
            logits_SVV = new.logits_SVV
            weight_SV = occupancy(logits_SVV.log_softmax(-1) if prefixes == "student" else teacher_SVV)
            optimizer.zero_grad()
            objective(term, logits_SVV, teacher_SVV, weight_SV).sum().backward()
            optimizer.step()
        return Student(*(x.detach() for x in (new.left_SVR, new.right_SRV, new.bias_S1V)))

    def on_policy(self, teacher_SVV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """On its own states: reverse KL, entropy, the teacher's log-prob of its samples; each [S]."""
        logq_SVV = self.logits_SVV.log_softmax(-1)
        weight_SV = occupancy(logq_SVV)
        mean = lambda x_SVV: (weight_SV * (logq_SVV.exp() * x_SVV).sum(-1)).sum(-1)
        return objective(REVERSE, self.logits_SVV, teacher_SVV, weight_SV), -mean(logq_SVV), mean(teacher_SVV)


def teachers(seeds: int, scale: float) -> Tensor:
    """Full-rank chains; the logits' standard deviation says how peaked they are. [S, V, V]"""
    return (scale * normal(seeds, V, V, name="teachers")).log_softmax(-1)
