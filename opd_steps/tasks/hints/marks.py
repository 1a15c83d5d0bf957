"""Attempts in front of the prompt, a character each to mark them: for models that are pretrained on such contexts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opd_steps.tasks.hints import Hints


@dataclass(frozen=True)
class Marks(Hints):
    """`!<attempt>|` for a right attempt, `?<attempt>|` for a wrong one, the right ones first, then the prompt.

    A note stands behind the attempts as `<note>|`. The source `hinted` writes such contexts into the corpus.
    """

    right: str = "!"
    wrong: str = "?"
    end: str = "|"

    @property
    def alphabet(self) -> str:
        return self.right + self.wrong + self.end

    def hinted_prompt(self, prompt: str, right: Sequence[str], wrong: Sequence[str], note: str = "") -> str:
        shown = [*(self.right + text for text in right), *(self.wrong + text for text in wrong), *([note] if note else [])]
        return "".join(text + self.end for text in shown) + prompt
