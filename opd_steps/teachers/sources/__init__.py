"""Where a teacher's weights come from as the student trains."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from opd_steps.nouns.hook import Hook
    from opd_steps.nouns.policy import Teacher
    from opd_steps.nouns.teaching import Given


class TeacherSource(Protocol):
    """Makes a teacher.

    ANSWERS           what the teacher can be asked: full (anything), sampled (the sampled token) or hidden (hidden states alone, by
                      the student alone)
    OTHER_TOKENIZER   whether its tokenizer may be another one than the student's
    MODEL             node: it loads the model that the teacher names; self: it is a learner of this node; none: it has no model
    MOVES             whether its weights change, so that it shares them with no other teacher
    """

    ANSWERS: ClassVar[str] = "full"
    OTHER_TOKENIZER: ClassVar[bool] = False
    MODEL: ClassVar[str] = "node"
    MOVES: ClassVar[bool] = False
    UNCARRIED: ClassVar[str] = "its teachers are models that read the student's tokens"

    @property
    def follows(self) -> float:
        """How much of the student's weights the teacher's take in after each step, for a trainer that moves them itself."""
        return 0.0

    @abstractmethod
    def teacher(self, given: Given) -> Teacher:
        """The teacher."""

    def hook(self, given: Given) -> Hook | None:
        """What moves the teacher's weights after each step; None: nothing."""
        return None
