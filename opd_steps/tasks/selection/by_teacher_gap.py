from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from opd_steps.errors import UserError
from opd_steps.seeds import epoch_order, rng
from opd_steps.tasks.selection import Selection


@dataclass(frozen=True)
class ByTeacherGap(Selection):
    """Prompts on which the teacher is reliable, and most ahead of the student (TVDF of Video-OPD, arXiv 2602.02994): those where its mean
    reward is below `reliable` are dropped (TRPV), of the others those with the largest teacher - student are kept (DBTP), a share `keep`
    of all that were measured. They come in shuffled epochs.

    rank: chance   as many, by chance: the control
    """

    RATES: ClassVar[bool] = True
    TEACHER: ClassVar[bool] = True

    reliable: Annotated[float, "0 to 1"] = 0.5
    keep: Annotated[float, "above 0, at most 1"] = 0.5
    rank: Literal["gap", "chance"] = "gap"

    def kept(self, seed: int, rates: dict[int, tuple[float, float]]) -> list[int]:
        """Numbers of the prompts, in order. `rates`: (student, teacher). Raises UserError when the teacher is reliable on none."""
        fit = [i for i, (_, teacher) in sorted(rates.items()) if teacher >= self.reliable]
        if not fit:
            raise UserError("select", f"on no prompt has the teacher a mean reward of {self.reliable}")
        if self.rank == "chance":
            fit = [fit[int(i)] for i in rng(seed, "by_teacher_gap").permutation(len(fit))]
        else:
            fit.sort(key=lambda i: rates[i][0] - rates[i][1])
        return sorted(fit[: max(round(self.keep * len(rates)), 1)])

    def pick(self, size: int, seed: int, step: int, count: int, rates: dict[int, tuple[float, float]]) -> list[int]:
        kept = self.kept(seed, rates)
        return [kept[i] for i in epoch_order(len(kept), (step - 1) * count, count, seed, "prompts")]
