"""A text in several turns: a policy writes, and somebody answers - a world, a user, a tool, another model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import derive

if TYPE_CHECKING:
    from opd_steps.models.lm_policy import LMPolicy


@dataclass(frozen=True)
class Reply:
    """`heard` is written behind the first `keep` (at least 1) of the new tokens; those behind were never said."""

    keep: int
    heard: Sequence[int]


Answer = Callable[[Sequence[int], Sequence[list[int]]], Sequence[Reply | None]]
"""(numbers of the rows that go on, the new tokens of each) -> what is answered to each; None: nothing, the row is over."""


@dataclass
class _Row:
    spoken: list[int]  # all tokens so far, the context's too
    actions: list[Tensor] = field(default_factory=list)
    logp: list[Tensor] = field(default_factory=list)
    heard: list[tuple[int, int]] = field(default_factory=list)
    decisions: int = 0
    ended: bool = False
    stop: str = ""


def converse(
    policy: LMPolicy, contexts: Sequence[list[int]], ids: Sequence[int], seeds: Sequence[int], version: int, answer: Answer
) -> Trajectory:
    """Rows of at most `policy.max_new_tokens` decisions each, over all turns; what `answer` wrote is `heard` (nouns.trajectory).

    A turn goes on until the policy ends it. That equals play in which every token is answered at once, as long as an answer is a
    function of what it follows and of chance that the policy has no part in: the tokens behind an answer are drawn, not looked at and
    forgotten. Turn t > 0 of row i has the seed derive(seeds[i], "turn", t), so a row to which nobody answers is that of
    `policy.rollout`. A turn may be drawn at full length whatever is left: rows need room for twice the budget (World.room).
    """
    rows, going, turn = [_Row(list(context)) for context in contexts], list(range(len(contexts))), 0
    while going:
        seeds_here = [derive(seeds[i], "turn", turn) if turn else seeds[i] for i in going]
        said = policy.rollout([rows[i].spoken for i in going], [ids[i] for i in going], seeds_here, version)
        left = [policy.max_new_tokens - rows[i].decisions for i in going]
        tails = [tokens[:n].tolist() for tokens, n in zip(said.actions, left, strict=True)]
        on = []
        for k, (i, reply) in enumerate(zip(going, answer(going, tails), strict=True)):
            row, new = rows[i], len(tails[k]) if reply is None else reply.keep
            if new < 1:
                raise ValueError("an answer stands behind at least one new token")
            row.actions.append(said.actions[k][:new])
            row.logp.append(said.logp[k][:new])
            row.decisions += new
            row.spoken += tails[k][:new]
            if reply is None:
                row.ended = bool(said.ended_B[k]) and new == len(said.actions[k])
                row.stop = said.stop[k] if said.stop and row.ended else ""
                continue
            row.heard += [(row.decisions, token) for token in reply.heard]
            row.spoken += reply.heard
            if row.decisions < policy.max_new_tokens:
                on.append(i)
        going, turn = on, turn + 1
    return Trajectory(
        [list(context) for context in contexts],
        [torch.cat(row.actions) for row in rows],
        torch.tensor(list(ids)),
        [torch.cat(row.logp) for row in rows],
        version_B=torch.full((len(rows),), version),
        ended_B=torch.tensor([row.ended for row in rows]),
        heard=[torch.tensor(row.heard, dtype=torch.long).view(-1, 2) for row in rows],
        stop=[row.stop for row in rows] if any(row.stop for row in rows) else None,
    )
