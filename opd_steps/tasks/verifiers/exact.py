"""The same text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Exact:
    """1 if completion and answer are equal but for surrounding white space, else 0.

    With `after`, only the text behind its last occurrence counts, and a completion without it scores 0.
    """

    after: str = ""

    def score(self, completion: str, answer: str) -> float:
        if self.after:
            _, marker, completion = completion.rpartition(self.after)
            if not marker:
                return 0.0
        return float(completion.strip() == answer.strip())
