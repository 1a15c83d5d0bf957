"""How much each decision point counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from opd_steps.nouns.dist import StepDist
    from opd_steps.nouns.trajectory import Trajectory
    from opd_steps.objectives.evidence import Evidence
    from opd_steps.objectives.stream import Moment


class Weight(Protocol):
    """A factor of the loss, told decision by decision (`weight_N`) or from the whole batch (`over_batch`).

    WIDE      whether it looks at the whole batch: then it has `over_batch`, else `weight_N`
    SURVEY    WIDE alone: whether it first measures each decision point, in `survey`
    TEACHER   what it asks of the teacher, beside what the support does: none, sampled or full
    OUTCOME   whether it reads the outcome advantages of groups (evidence.outcome_N)
    ROWS      none; sampled: rows that a policy sampled and somebody judged; groups: several of each prompt
    METRICS   the curves that `over_batch` draws
    """

    WIDE: ClassVar[bool] = False
    SURVEY: ClassVar[bool] = False
    TEACHER: ClassVar[str] = "none"
    OUTCOME: ClassVar[bool] = False
    ROWS: ClassVar[str] = "none"
    METRICS: ClassVar[tuple[str, ...]] = ()

    def weight_N(self, q: StepDist, evidence: Evidence) -> Tensor:
        """The factor at each decision point, [N]; its gradient is not followed."""
        raise NotImplementedError

    def survey(self, q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
        """Figures of each decision point, by name, [N]; called for a part of the batch at a time, without gradient."""
        return {}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        """(the factor at each decision point, [N]; curves), from all rows of the step and what `survey` measured on them."""
        raise NotImplementedError
