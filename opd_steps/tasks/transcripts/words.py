"""A debate in words: for models that follow instructions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opd_steps.tasks.transcripts import Transcript

NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Words(Transcript):
    """Behind the prompt who the expert is, the transcript, and what to do. The frame of the transcript and the mark of confidence are those
    of MAD-OPD's code (arXiv 2605.01347), the sentences around them ours.
    """

    identity: str = "You are Expert {expert}."
    answer: str = "Solve the question."
    revise: str = (
        "Solve the question again in the light of the debate. You need not agree: keep what is right, mend what is not."
    )
    confidence: str = (
        "End your reply with <<CONFIDENCE=N>>, where N is a whole number from 0 to 100 that says how sure you are."
    )
    cue: str = "Solve the question."

    def asks(self, prompt: str, parts: Sequence[tuple[int, int, str]], expert: int) -> str:
        return self._told(prompt, parts, expert, f"{self.revise if parts else self.answer} {self.confidence}")

    def shows(self, prompt: str, parts: Sequence[tuple[int, int, str]], expert: int) -> str:
        return self._told(prompt, parts, expert, self.cue)

    def _told(self, prompt: str, parts: Sequence[tuple[int, int, str]], expert: int, task: str) -> str:
        said = "\n".join(f"[Expert {NAMES[k]} Round {r + 1}]: {text}" for k, r, text in parts)
        debate = [f"[Debate Start]\n{said}\n[Debate End]"] if parts else []
        return "\n\n".join([prompt.rstrip("\n"), self.identity.format(expert=NAMES[expert]), *debate, task])
