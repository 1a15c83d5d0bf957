"""Several policies side by side at the decision points of a trajectory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from opd_steps.errors import NotFinite
from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.policy import Policy, Teacher
from opd_steps.nouns.trajectory import Trajectory

ROWS = 64  # at once
LOGITS = 1 << 25  # of one policy at once: a wide vocabulary is looked at at fewer points


def side_by_side(
    rows: Trajectory, policies: dict[str, Policy | Teacher], micro_batch: int = ROWS, chunk: int = 1024
) -> Iterator[tuple[slice, list[Categorical]]]:
    """(which decision points, each policy's distributions at them), in order; `policies` by the role in which they look.

    `micro_batch` rows at a time, and never more than the policies decode at once; `chunk` decision points at a time, and never more than
    LOGITS log-probs, so that [N, V] never exists. Raises NotFinite for log-probs
    that are no numbers.
    """
    start, micro_batch = 0, min([micro_batch, *(p.batch for p in policies.values() if hasattr(p, "batch"))])
    for row in range(0, len(rows), micro_batch):
        part = rows.rows(slice(row, row + micro_batch))
        dists = [policy.dist(part, role) for role, policy in policies.items()]
        step = max(1, min(chunk, LOGITS // dists[0].chunk(0, 1).logp_NV.shape[-1])) if len(dists[0]) else chunk
        for i in range(0, len(dists[0]), step):
            found = [_finite(dist.chunk(i, i + step), policy) for dist, policy in zip(dists, policies.values(), strict=True)]
            yield slice(start + i, start + i + len(found[0])), found
        start += len(dists[0])


def nll(rows: Trajectory, policy: Policy | Teacher, role: str, micro_batch: int = ROWS) -> Tensor:
    """-log p of each decision, nats, [N] fp64 on the CPU."""
    parts = side_by_side(rows, {role: policy}, micro_batch)
    return torch.cat([-p.logp(rows.action_N[at].to(p.logp_NV.device)).double().cpu() for at, (p,) in parts])


def _finite(dist: Categorical, policy: Policy | Teacher) -> Categorical:
    """A nan or infinite logit makes the largest log-prob nan; log-probs of -inf are tokens of probability 0."""
    if not dist.logp_NV.amax(-1).isfinite().all():
        raise NotFinite(getattr(policy, "name", "model"), "its log-probs are not finite")
    return dist


def kl(q: Categorical, p: Categorical) -> Tensor:
    """KL(q || p) over the full vocabulary, nats, [N]."""
    return (q.logp_NV.exp() * (q.logp_NV - p.logp_NV)).sum(-1)
