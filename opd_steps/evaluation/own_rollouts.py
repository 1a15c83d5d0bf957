"""What a model does on its own: entropy, length, truncation and repetition of fresh samples, and its distance from a teacher on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from opd_steps.evaluation.points import kl, side_by_side
from opd_steps.nouns.policy import Policy, Teacher
from opd_steps.seeds import derive

GRAM = 3  # tokens


@torch.no_grad()
def own_statistics(
    policy: Policy,
    contexts: list[list[int]],
    seed: int,
    teacher: Teacher | None = None,
    micro_batch: int = 64,
    chunk: int = 1024,
) -> dict[str, float]:
    """One sample of every context by `policy`, then over all its N decision points:

        own/entropy     mean entropy, nats
        own/length      mean number of response tokens, end token included
        own/truncated   share of samples cut at their maximum length
        own/repetition  share of 3-grams of tokens that the sample has said before, mean over samples; left out if all are shorter
        own/reverse_kl  mean KL(student || teacher) over the full vocabulary, nats; with a teacher

    `chunk` decision points at a time, so that [N, V] never exists.
    """
    rows = policy.rollout(contexts, range(len(contexts)), [derive(seed, "own", i) for i in range(len(contexts))], 0)
    entropy, reverse_kl = 0.0, 0.0
    policies = {"student": policy} | ({"teacher": teacher} if teacher else {})
    for _, (student, *others) in side_by_side(rows, policies, micro_batch, chunk):
        entropy += float(student.entropy().double().sum())
        for other in others:
            reverse_kl += float(kl(student, other).double().sum())
    points = int(rows.length_B.sum())
    found = {
        "own/entropy": entropy / points,
        "own/length": points / len(rows),
        "own/truncated": float((~rows.ended_B).double().mean()),
    }
    if (repeated := repetition(rows.actions)) is not None:
        found["own/repetition"] = repeated
    return found | ({"own/reverse_kl": reverse_kl / points} if teacher else {})


def repetition(actions: Sequence[Tensor], n: int = GRAM) -> float | None:
    """Mean over samples of 1 - distinct / all of their n-grams; None where no sample has one."""
    shares = []
    for action_T in actions:
        if len(action_T) >= n:
            grams_GN = action_T.unfold(0, n, 1)
            shares.append(1 - len(grams_GN.unique(dim=0)) / len(grams_GN))
    return sum(shares) / len(shares) if shares else None
