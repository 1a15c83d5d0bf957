from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.prefixes import PrefixSource
from opd_steps.prefixes.routed import Routed
from opd_steps.tasks.flow_lines import line


@dataclass(frozen=True)
class Straight(PrefixSource):
    """Images that flows make, each the one that a row's value in `column` names ({value: teacher}), and of each, points on the straight line
    that leads to it. With the estimator mle: fine-tuning on the teachers' images by flow matching; pairs, from the noise that the image was
    made of: reflow (arXiv 2209.03003), which takes bends out of the paths, so that few steps do.
    """

    SAMPLED: ClassVar[bool] = False
    JUDGED: ClassVar[bool] = False
    OTHERS: ClassVar[dict] = {"to": "sampled"}

    column: str = "task"
    to: dict[str, str] = field(default_factory=dict)
    pairs: bool = False
    draws: Annotated[int, "at least 1"] = 4  # points of each line

    def rows(self, draw: Draw) -> Batch:
        made = Routed(self.column, self.to).rows(draw).rows
        shift = draw.learner.family.shift
        lines = [
            line(a[-1], self.draws, shift, draw.seed, "straight", draw.step, b, noise_D=x[0] if self.pairs else None)
            for b, (a, x) in enumerate(zip(made.actions, made.extra["latents"], strict=True))
        ]
        states, actions, sigmas = (list(part) for part in zip(*lines, strict=True))
        return Batch(made.with_columns(actions=actions, logp=None, reward_B=None, extra={"latents": states, "sigmas": sigmas}))
