"""The same number, and what was read in place of it."""

from __future__ import annotations

from dataclasses import dataclass

from opd_steps.tasks.verifiers._answers import stated_number
from opd_steps.tasks.verifiers.numeric import Numeric


@dataclass(frozen=True)
class NumericFeedback(Numeric):
    """As `numeric`; of a wrong completion it says (feedback) which number was read as its answer, or that none was."""

    def feedback(self, completion: str, answer: str) -> str:
        """What a context may show of a wrong completion."""
        said = (
            "no number could be read as the answer"
            if (found := stated_number(completion)) is None
            else f"the answer {found} is wrong"
        )
        return f"The following is feedback from your unsuccessful earlier attempt: {said}."
