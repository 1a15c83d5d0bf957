"""Help towards a solution, written by one model for others to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opd_steps.tasks.transcripts import Transcript


@dataclass(frozen=True)
class Hints(Transcript):
    """A debate of one: who answers gives the steps of a solution without taking them, and they stand behind the prompt (the privilege of
    DOPD, arXiv 2606.30626; the words are ours).
    """

    ask: str = (
        "Do not solve this question. Name the steps that lead to its solution, one on each line: what has to be found or done, "
        "without doing it. State no intermediate result and no final answer."
    )
    lead: str = "Hints:"
    cue: str = "Solve the question."

    def asks(self, prompt: str, parts: Sequence[tuple[int, int, str]], expert: int) -> str:
        return self._told(prompt, parts, self.ask)

    def shows(self, prompt: str, parts: Sequence[tuple[int, int, str]], expert: int) -> str:
        return self._told(prompt, parts, self.cue)

    def _told(self, prompt: str, parts: Sequence[tuple[int, int, str]], task: str) -> str:
        said = [self.lead, *(text for _, _, text in parts)] if parts else []
        return "\n\n".join([prompt.rstrip("\n"), *said, task])
