"""Which decision points a term is about."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from opd_steps.nouns.dist import StepDist
    from opd_steps.nouns.trajectory import Trajectory
    from opd_steps.objectives.evidence import Evidence
    from opd_steps.objectives.stream import Moment


class Where(Protocol):
    """A mask over all decision points of a batch, told with every teacher in view (evidence.others). What it leaves out counts for
    nothing, in means either. A router is one such mask in each of several terms.

    WIDE      it looks at the whole batch: always
    SURVEY    whether it first measures each decision point, in `survey`
    TEACHER   what it asks of the teacher that its term is against: none, sampled or full
    OUTCOME   whether it reads the outcome advantages of groups (evidence.outcome_N)
    ROWS      none; sampled: rows that a policy sampled and somebody judged; groups: several of each prompt
    METRICS   the curves that `over_batch` draws
    """

    WIDE: ClassVar[bool] = True
    SURVEY: ClassVar[bool] = True
    TEACHER: ClassVar[str] = "none"
    OUTCOME: ClassVar[bool] = False
    ROWS: ClassVar[str] = "none"
    METRICS: ClassVar[tuple[str, ...]] = ()

    def survey(self, q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
        """Figures of each decision point, by name, [N]; called for a part of the batch at a time, without gradient."""
        return {}

    @abstractmethod
    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        """(whether the term is about each decision point, [N]; curves), from all rows of the step and what `survey` measured."""
