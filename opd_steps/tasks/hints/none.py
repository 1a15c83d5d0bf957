"""No attempts are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opd_steps.errors import UserError
from opd_steps.tasks.hints import Hints


@dataclass(frozen=True)
class NoHints(Hints):
    """The prompt as it is; to show an attempt raises UserError."""

    @property
    def alphabet(self) -> str:
        return ""

    def hinted_prompt(self, prompt: str, right: Sequence[str], wrong: Sequence[str], note: str = "") -> str:
        if right or wrong or note:
            raise UserError("hints", "this data node does not say how attempts are shown; set hints: marks or hints: words")
        return prompt
