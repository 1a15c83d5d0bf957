"""A debate in a character or two: for models that are trained to read it (source `debated`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from opd_steps.tasks.transcripts import Transcript


@dataclass(frozen=True)
class Marks(Transcript):
    """`1<text>|2<text>|1<text>|2<text>|` in front of the prompt: an expert's mark and what it said, round after round. Nothing says who
    reads it: here each expert is a model of its own.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("len(experts) >= 2",)

    experts: str = "12"  # the mark of each
    end: str = "|"

    def asks(self, prompt: str, parts: Sequence[tuple[int, int, str]], expert: int) -> str:
        return self.shows(prompt, parts, expert)

    def shows(self, prompt: str, parts: Sequence[tuple[int, int, str]], expert: int) -> str:
        return "".join(self.experts[k] + text + self.end for k, _, text in parts) + prompt
