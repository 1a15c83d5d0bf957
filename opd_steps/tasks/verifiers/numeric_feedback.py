"""The same number, and what was read in place of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.tasks.verifiers._answers import stated_number
from opd_steps.tasks.verifiers.numeric import Numeric


@dataclass(frozen=True)
class NumericFeedback(Numeric):
    """As `numeric`; of a wrong completion it says (feedback) which number was read as its answer, or that none was."""

    SPEAKS: ClassVar[bool] = True

    def feedback(self, completion: str, answer: str) -> str:
        said = (
            "no number could be read as the answer"
            if (found := stated_number(completion)) is None
            else f"the answer {found} is wrong"
        )
        return f"The following is feedback from your unsuccessful earlier attempt: {said}."
