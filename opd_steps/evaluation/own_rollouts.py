"""What a model does on its own: entropy, length and truncation of fresh samples, and its distance from a teacher on them."""

from __future__ import annotations

import torch

from opd_steps.evaluation.points import kl, side_by_side
from opd_steps.nouns.policy import Policy, Teacher
from opd_steps.seeds import derive


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
    return found | ({"own/reverse_kl": reverse_kl / points} if teacher else {})
