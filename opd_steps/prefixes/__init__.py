"""Whose tokens, or other decisions, the states of a step come from."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from opd_steps.nouns.batch import Batch
    from opd_steps.nouns.draw import Draw


class PrefixSource(Protocol):
    """Makes the rows of a step.

    SAMPLED  whether a policy sampled all of its rows, so that they have log-probs and rewards
    OWN      whether the learner itself samples
    SAMPLER  the teacher whose own model must sample for it; "" for none
    JUDGED   whether some of its rows have a reward
    TEXTS    whether it reads a text column of the data, named by its option `column`
    RECORDS  TEXTS alone: whether its texts are those of the step's own prompts
    TRACES   TEXTS alone: whether samples of a policy may stand in that column's place (the node's `texts`)
    LEARNER  whether they are the rows of the learner that its option `learner` names
    MIXED    whether it samples tokens from two models at once, which no engine does
    """

    SAMPLED: ClassVar[bool] = True
    JUDGED: ClassVar[bool] = True
    OWN: ClassVar[bool] = False
    SAMPLER: ClassVar[str] = ""
    TEXTS: ClassVar[bool] = False
    RECORDS: ClassVar[bool] = False
    TRACES: ClassVar[bool] = False
    LEARNER: ClassVar[bool] = False
    MIXED: ClassVar[bool] = False
    UNCARRIED: ClassVar[str] = "its rows are the student's own answers to prompts"

    @abstractmethod
    def rows(self, draw: Draw) -> Batch:
        """The rows of a step: a function of the draw alone."""
