"""The same text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar
from unicodedata import normalize

from opd_steps.tasks.thoughts import after_thought
from opd_steps.tasks.verifiers import Verifier


@dataclass(frozen=True)
class Exact(Verifier):
    """1 if completion and answer are equal but for surrounding white space and Unicode's normal form (NFC), else 0.

    With `after`, only the text behind its last occurrence counts, or behind that of a marker of `or_after` that comes later; a
    completion without any scores 0. A thought (`<think>`) is not read, and one that never ended scores 0.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("after != '' or or_after == []", "'' not in or_after")

    after: str = ""
    or_after: list[str] = field(default_factory=list)

    def score(self, completion: str, answer: str) -> float:
        text = after_thought(completion)
        if text is None:
            return 0.0
        if self.after:
            ends = [text.rfind(marker) + len(marker) for marker in self._markers if marker in text]
            if not ends:
                return 0.0
            text = text[max(ends) :]
        return float(normalize("NFC", text.strip()) == normalize("NFC", answer.strip()))

    def unreadable(self, answer: str) -> str:
        for marker in self._markers:
            if marker in answer:
                return f"holds {marker!r}, and the verifier exact reads only what follows the last one"
        return ""

    @property
    def _markers(self) -> list[str]:
        return [self.after, *self.or_after] if self.after else []
