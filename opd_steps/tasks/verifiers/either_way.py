"""An answer in either of two styles: as it is read, or from its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from opd_steps.config.plugs import plug
from opd_steps.tasks.verifiers import Verifier


@dataclass(frozen=True)
class EitherWay(Verifier):
    """The better of the scores that `of` gives to the completion and to its characters in reverse order (source `backward`).

    Measures `backward`, the share of right samples that are so only when read from their end.
    """

    METRICS: ClassVar[dict[str, str]] = {"backward": ""}

    of: Any = plug("tasks/verifiers", "walk")

    @property
    def alphabet(self) -> str:
        return self.of.alphabet

    def score(self, completion: str, answer: str) -> float:
        return max(self.of.score(completion, answer), self.of.score(completion[::-1], answer))

    def judge(self, completions: Sequence[str], rows: Sequence[Mapping]) -> list[float]:
        turned = [completion[::-1] for completion in completions]
        return list(map(max, self.of.judge(completions, rows), self.of.judge(turned, rows)))

    def unreadable(self, answer: str) -> str:
        return self.of.unreadable(answer)

    def measure(self, completions: Sequence[str], answers: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
        right = [pair for *pair, score in zip(completions, answers, scores, strict=True) if score > 0]
        return {"backward": sum(not self.of.score(*pair) for pair in right) / len(right)} if right else {}
