"""The text between two tags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.tasks.thoughts import after_thought
from opd_steps.tasks.verifiers import Verifier


@dataclass(frozen=True)
class Tagged(Verifier):
    """1 if what stands behind the last `opens`, up to `closes`, is the answer but for white space around it, else 0: the letter of a
    multiple choice (the rule of SDPO's released code, arXiv 2601.20802). Without tags it is the whole completion.

    A thought (`<think>`) is not read, and one that never ended scores 0.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("opens != ''", "closes != ''")

    opens: str = "<answer>"
    closes: str = "</answer>"

    def score(self, completion: str, answer: str) -> float:
        text = after_thought(completion)
        if text is None:
            return 0.0
        return float(text.split(self.opens)[-1].split(self.closes)[0].strip() == answer.strip())

    def unreadable(self, answer: str) -> str:
        found = [tag for tag in (self.opens, self.closes) if tag in answer]
        return f"holds {found[0]!r}, and the verifier tagged reads what stands between its tags" if found else ""
