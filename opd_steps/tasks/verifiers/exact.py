"""The same text."""

from __future__ import annotations

from dataclasses import dataclass
from unicodedata import normalize

from opd_steps.tasks.thoughts import after_thought
from opd_steps.tasks.verifiers import Verifier


@dataclass(frozen=True)
class Exact(Verifier):
    """1 if completion and answer are equal but for surrounding white space and Unicode's normal form (NFC), else 0.

    With `after`, only the text behind its last occurrence counts, and a completion without it scores 0. A thought (`<think>`) is
    not read, and one that never ended scores 0.
    """

    after: str = ""

    def score(self, completion: str, answer: str) -> float:
        text = after_thought(completion)
        if text is None:
            return 0.0
        if self.after:
            _, marker, text = text.rpartition(self.after)
            if not marker:
                return 0.0
        return float(normalize("NFC", text.strip()) == normalize("NFC", answer.strip()))

    def unreadable(self, answer: str) -> str:
        if self.after and self.after in answer:
            return f"holds {self.after!r}, and the verifier exact reads only what follows the last one"
        return ""
