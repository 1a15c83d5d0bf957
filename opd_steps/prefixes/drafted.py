from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from opd_steps.loop.batches import rollout_metrics, sampled_rows
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.prefixes import PrefixSource
from opd_steps.seeds import rng


@dataclass(frozen=True)
class Drafted(PrefixSource):
    """What a drafter proposes while it speaks with its target: a row is a block, behind all text before it, accepted or not (Draft-OPD, arXiv
    2605.29343). anchors: `errors`, where verification left it, behind what was rejected before; `random`, the ablation: as many uniform
    places of the same text, from which it drafts once more.

    Column "accepted": of each block, how many tokens are what the target says. With token_mean and `where: drafted` each stream is the
    mean over its own tokens.
    """

    SAMPLED: ClassVar[bool] = False
    JUDGED: ClassVar[bool] = False
    OWN: ClassVar[bool] = True

    anchors: Literal["errors", "random"] = "errors"

    def rows(self, draw: Draw) -> Batch:
        made = sampled_rows(draw.learner, draw.pool, draw.picks, draw.n, draw.step, draw.seed, "rollout", version=draw.version)
        rows = by_block(made.rows) if self.anchors == "errors" else self._anywhere(made.rows, draw)
        return Batch(rows, metrics=rollout_metrics(made.rows.with_columns(reward_B=None)))

    def _anywhere(self, rows: Trajectory, draw: Draw) -> Trajectory:
        found = []
        for b, (said, anchors) in enumerate(zip(rows.actions, rows.extra["anchors"], strict=True)):
            chance = rng(draw.seed, "anchors", draw.step, b)
            found.append(torch.tensor(sorted(chance.choice(len(said), len(anchors), replace=False).tolist())))
        before = [[*c, *a[:k].tolist()] for c, a, places in _each(rows, found) for k in places.tolist()]
        blocks = draw.learner.propose(before).split([len(places) for places in found])
        truth = [
            torch.stack([_part(a, k, draw.learner.family.block) for k in places.tolist()])
            for _, a, places in _each(rows, found)
        ]
        accepted = [(block == right).long().cumprod(1).sum(1) for block, right in zip(blocks, truth, strict=True)]
        drafts = [block.where(right != NONE, NONE) for block, right in zip(blocks, truth, strict=True)]
        return by_block(rows.with_columns(extra={"anchors": found, "drafts": drafts, "accepted": accepted}))


NONE = -1  # behind the end of a text


def _each(rows: Trajectory, places: list[Tensor]):
    return zip(rows.contexts, rows.actions, places, strict=True)


def _part(said: Tensor, start: int, count: int) -> Tensor:
    part = said[start : start + count]
    return torch.nn.functional.pad(part, (0, count - len(part)), value=NONE)


def by_block(rows: Trajectory) -> Trajectory:
    """A row for each block that was drafted in a row's text, in their order."""
    contexts, actions, owner, accepted = [], [], [], []
    columns = zip(rows.contexts, rows.actions, *(rows.extra[name] for name in ("anchors", "drafts", "accepted")), strict=True)
    for b, (context, said, anchors, drafts, right) in enumerate(columns):
        for anchor, block_K, n in zip(anchors.tolist(), drafts, right.tolist(), strict=True):
            contexts.append([*context, *said[:anchor].tolist()])
            actions.append(block_K[block_K != NONE])
            owner.append(b)
            accepted.append(n)
    found = rows.rows(owner)
    return Trajectory(
        contexts, actions, found.prompt_B, version_B=found.version_B, ended_B=found.ended_B, extra={"accepted": accepted}
    )
