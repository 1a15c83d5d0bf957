from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from opd_steps.loop.batches import sampled_rows
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.nouns.duel import duel
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.prefixes import PrefixSource
from opd_steps.tasks.segments import in_segments


@dataclass(frozen=True)
class Duels(PrefixSource):
    """Rows for a discriminator: at each of the step's prompts a teacher's text and a policy's, where both have the format of two
    segments (PRISM, arXiv 2604.28123). Of a teacher, a text is all that is asked.

    author   whose texts are the teacher's: a teacher of the node, who samples; "": the data's own `column`
    policy   whose are held against them: a teacher of the node, who samples; "": the student's rows of this step
    """

    SAMPLED: ClassVar[bool] = False
    JUDGED: ClassVar[bool] = False
    TEXTS: ClassVar[bool] = True
    RECORDS: ClassVar[bool] = True
    OTHERS: ClassVar[dict] = {"author": "sampled", "policy": "sampled"}

    author: str = ""
    policy: str = ""
    column: str = "solution"
    mark: str = "####"
    in_prompt: bool = False  # a row's mark is what the pattern `mark` finds in its prompt

    def rows(self, draw: Draw) -> Batch:
        made = self._sampled(draw, self.policy) if self.policy else draw.made[""].rows
        prompts = made.prompt_B.tolist()
        texts = self._sampled(draw, self.author) if self.author else draw.texts(self.column).rows(prompts)
        said = [in_segments(rows, draw.pool, self.mark, self.in_prompt) for rows in (texts, made)]
        pairs = [(i, pair) for i, pair in enumerate(zip(*said, strict=True)) if all(pair)]
        if not pairs:
            return Batch.empty()
        choices = [torch.zeros(len(teachers.ends), dtype=torch.long) for _, (teachers, _) in pairs]
        prompt_B, version_B = made.prompt_B[[i for i, _ in pairs]], torch.full((len(pairs),), draw.version)
        return Batch(Trajectory([duel(*pair) for _, pair in pairs], choices, prompt_B, version_B=version_B))

    def _sampled(self, draw: Draw, name: str) -> Trajectory:
        return sampled_rows(draw.policies[name], draw.pool, draw.picks, draw.n, draw.step, draw.seed, "duels", name).rows
