from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch

from opd_steps.config.asks import Asks
from opd_steps.nouns.policy import Teacher
from opd_steps.nouns.teaching import Given
from opd_steps.seeds import sample_seeds
from opd_steps.teachers.bridge import BridgedTeacher, Moments
from opd_steps.teachers.sources import TeacherSource

ROWS, TOKENS = 16, 32768  # of one forward pass, at most: states of all layers are held


@dataclass(frozen=True)
class Bridged(TeacherSource):
    """A frozen teacher of another width, known by its hidden states alone (OPRD-Bridge, arXiv 2606.06021).

    Over samples of the student as it starts, for each pair of layers that the method holds side by side:
        P_T = the `rank` first principal directions of h_T [rank, d_T]     z_T = P_T (h_T - mean h_T)
        P_S = argmin over [rank, d_S] of  E |P_S h_S - z_T|^2
    Both stay as they are: the teacher's states are z_T, the student's are read as P_S h_S. P_S is the least-squares solution
    itself; the authors' code comes near it by gradient steps. It is made anew at each start, of the same weights.
    """

    ANSWERS: ClassVar[str] = "hidden"

    rank: Annotated[int, "at least 1"] = 8
    prompts: Annotated[int, "at least 1"] = 256  # whose samples it is made from

    @torch.no_grad()
    def teacher(self, given: Given) -> Teacher:
        policy, pool, learner = given.load(), given.pool, given.learner
        picks = pool.pick(0, 1, min(self.prompts, len(pool)), "bridge")
        rows = pool.play(learner, *sample_seeds(picks, 1, "bridge"), 0)
        own, other = (Asks(hidden=frozenset(layers)) for layers in zip(*given.pairs, strict=True))
        moments = {pair: Moments() for pair in given.pairs}
        at_once = max(1, min(ROWS, TOKENS // max(map(len, rows.actions))))
        for i in range(0, len(rows), at_once):
            part = rows.rows(slice(i, i + at_once))
            mine, theirs = learner.dist(part, "student", own).layers, policy.dist(part, given.name, other).layers
            for (s, t), found in moments.items():
                found.add(mine[s], theirs[t])
        return BridgedTeacher.over(policy, moments, self.rank)
