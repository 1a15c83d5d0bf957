"""Responses that somebody else began."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from opd_steps.nouns.policy import Policy
from opd_steps.nouns.trajectory import Trajectory


def continued(
    policy: Policy, contexts: Sequence[list[int]], prefixes: Sequence[Tensor], prompts: Sequence[int], seeds: Sequence[int]
) -> Trajectory:
    """Whole responses: each prefix, then what `policy` says, `max_new_tokens` in all.

    A prefix that ended stays as it is. Rows of equal context, prefix and seed are continued alike.
    """
    actions = list(prefixes)
    left = [policy.max_new_tokens - len(p) if not len(p) or int(p[-1]) not in policy.ends else 0 for p in prefixes]
    going = [i for i, room in enumerate(left) if room > 0]
    if going:
        starts = [[*contexts[i], *prefixes[i].tolist()] for i in going]
        tails = policy.rollout(starts, [prompts[i] for i in going], [seeds[i] for i in going]).actions
        for i, tail in zip(going, tails, strict=True):
            actions[i] = torch.cat([prefixes[i], tail[: left[i]]])
    return Trajectory(contexts, actions, torch.tensor(list(prompts)))
