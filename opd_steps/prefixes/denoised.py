from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from opd_steps.loop.batches import rollout_metrics, sampled_rows
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.prefixes import PrefixSource
from opd_steps.seeds import sample_seeds


@dataclass(frozen=True)
class Denoised(PrefixSource):
    """States through which a masked language model comes to a text of its own: a row is a state, its decisions are the covered places of the
    current block, with the tokens that stand there in the end (d-OPSD, arXiv 2606.18195). Until all of the answer is uncovered, and without
    those of the last block, behind which nothing stands that a teacher could be shown.

    tries: a text that its judge rejects is drawn anew, at temperature `again`, until one is right, so often in all; the last one stays.
    """

    OWN: ClassVar[bool] = True
    SAMPLED: ClassVar[bool] = False  # most of these tokens were drawn at later states

    tries: Annotated[int, "at least 1"] = 1
    again: Annotated[float, "above 0"] = 0.9

    def rows(self, draw: Draw) -> Batch:
        made = sampled_rows(draw.learner, draw.pool, draw.picks, draw.n, draw.step, draw.seed, "rollout", version=draw.version)
        rows, retry = made.rows, copy.copy(draw.learner)
        retry.temperature = self.again
        for attempt in range(1, self.tries):
            wrong = (rows.reward_B < 0.5).nonzero()[:, 0].tolist()
            if not wrong:
                break
            prompts, seeds = sample_seeds(draw.picks, draw.n, draw.seed, "try", attempt, draw.step)
            more = draw.pool.play(retry, [prompts[b] for b in wrong], [seeds[b] for b in wrong], draw.version)
            place = dict(zip(wrong, range(len(rows), len(rows) + len(wrong)), strict=True))
            rows = Trajectory.concat([rows, more]).rows([place.get(b, b) for b in range(len(rows))])
        return Batch(by_state(rows), metrics=rollout_metrics(rows))


def by_state(rows: Trajectory) -> Trajectory:
    """A row for each state of each text, in their order."""
    owner, places, steps = [], [], []
    for b, (order_G, said) in enumerate(zip(rows.extra["order"], rows.actions, strict=True)):
        block = rows.extra["block"][b]
        last = len(order_G) - block
        for step in range(int(order_G[: len(said)].max()) + 1):
            start = int((order_G == step).nonzero()[0]) // block * block
            if start < last:
                owner.append(b)
                places.append(start + covered(order_G[start : start + block], step))
                steps.append(torch.full_like(places[-1], step))
    found = rows.rows(owner)
    actions = [text_G[at] for text_G, at in zip(found.extra["text"], places, strict=True)]
    return found.with_columns(actions=actions, logp=None, extra=found.extra | {"places": places, "steps": steps})


def covered(order_K: Tensor, step: int) -> Tensor:
    """Places that no earlier step had uncovered."""
    return (order_K >= step).nonzero()[:, 0]
