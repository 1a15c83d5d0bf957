"""Where a teacher's weights come from as the student trains."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from opd_steps.nouns.hook import Hook
    from opd_steps.nouns.policy import Teacher


class TeacherSource(Protocol):
    """Makes a teacher of the policy that a node names.

    ANSWERS           what the teacher can be asked: full (any token) or sampled (the sampled one alone)
    OTHER_TOKENIZER   whether its tokenizer may be another one than the student's
    """

    ANSWERS: ClassVar[str] = "full"
    OTHER_TOKENIZER: ClassVar[bool] = False

    @abstractmethod
    def teacher(self, policy: Any, pool: Any) -> Teacher:
        """The teacher, of the named policy and the train prompts."""

    def hook(self, policy: Any) -> Hook | None:
        """What moves the teacher's weights after each step; None: nothing."""
        return None
