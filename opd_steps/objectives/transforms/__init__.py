"""What is done to an advantage before it weighs the score function."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from opd_steps.nouns.dist import StepDist
    from opd_steps.nouns.trajectory import Trajectory
    from opd_steps.objectives.evidence import Evidence
    from opd_steps.objectives.stream import Moment


class Transform(Protocol):
    """Changes an advantage, decision by decision (`apply`), or adds to it what only the whole batch tells (`over_batch`).

    WIDE        whether it looks at the whole batch: then it has `over_batch`, else `apply`
    SURVEY      WIDE alone: whether it first measures each decision point, in `survey`
    LOG_RATIO   whether it acts on log p - log q of the sampled action: signal log_ratio, no baseline, no transform before it
    TEACHER     what it asks of the teacher, beside what the support does: none, sampled or full
    OUTCOME     whether it reads the outcome advantages of groups (evidence.outcome_N)
    ROWS        none; sampled: rows that a policy sampled and somebody judged; groups: several of each prompt
    SOURCE      the teacher source that it works with (teachers/sources); "": any
    METRICS     the curves that `over_batch` draws
    """

    WIDE: ClassVar[bool] = False
    SURVEY: ClassVar[bool] = False
    LOG_RATIO: ClassVar[bool] = False
    TEACHER: ClassVar[str] = "none"
    OUTCOME: ClassVar[bool] = False
    ROWS: ClassVar[str] = "none"
    SOURCE: ClassVar[str] = ""
    METRICS: ClassVar[tuple[str, ...]] = ()

    def apply(self, advantage_NK: Tensor, evidence: Evidence) -> Tensor:
        """The new advantage, [N, K]."""
        raise NotImplementedError

    def survey(self, q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
        """Figures of each decision point, by name, [N]; called for a part of the batch at a time, without gradient."""
        return {}

    def over_batch(self, rows: Trajectory, found: dict[str, Tensor], moment: Moment) -> tuple[Tensor, dict[str, float]]:
        """(what is added to the advantage, [N]; curves), from all rows of the step and what `survey` measured on them."""
        raise NotImplementedError
