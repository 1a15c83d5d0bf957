from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from opd_steps.analyses import Analysis
from opd_steps.analyses._context import Context
from opd_steps.analyses._mean import ratio
from opd_steps.tasks.selection.by_teacher_gap import ByTeacherGap


@dataclass(frozen=True)
class Kept(Analysis):
    """Of which prompts a selection by the teacher's reliability and lead (by_teacher_gap, arXiv 2602.02994) keeps how many: those whose
    `column` is `value`, against all others. `model` is the student.

    kept/before, kept/after     their share of the prompts, and of those that are kept
    kept/teacher, kept/others   the teacher's mean reward on them, and on the others
    """

    NEEDS: ClassVar[tuple[str, ...]] = ("teacher", "data")
    METRICS: ClassVar[tuple[str, ...]] = ("kept/before", "kept/after", "kept/teacher", "kept/others")

    value: str
    column: str = "prompt"
    reliable: Annotated[float, "0 to 1"] = 0.5
    keep: Annotated[float, "above 0, at most 1"] = 0.5
    n: Annotated[int, "1 to 1024"] = 4  # samples of a prompt, by either

    def measure(self, ctx: Context) -> dict[str, float | None]:
        mean_P = lambda role: ctx.rollouts(role, self.n).reward_B.view(-1, self.n).mean(-1).tolist()
        rates = dict(enumerate(zip(mean_P("model"), mean_P("teacher"), strict=True)))
        kept = ByTeacherGap(self.reliable, self.keep).kept(ctx.seed, rates)
        mine = {i for i in rates if ctx.pool.column(self.column, i) == self.value}
        mean = lambda these: ratio(sum(rates[i][1] for i in these), len(these))
        return {
            "kept/before": len(mine) / len(rates),
            "kept/after": ratio(len(mine & set(kept)), len(kept)),
            "kept/teacher": mean(mine),
            "kept/others": mean(rates.keys() - mine),
        }
