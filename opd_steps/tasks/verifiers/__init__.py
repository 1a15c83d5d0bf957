"""Who judges completions of text against an answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol


class Verifier(Protocol):
    """Judges completions.

    METRICS   what `measure` gives beside correctness, with its direction: "up" (more is better), "down", "" (neither); claims may use
              it as `<split>/<name>`
    SPEAKS    whether it says something of wrong completions, in `feedback`
    JUDGES    whether it reads answers: else rows need none
    AT_ONCE   whether it compares no completions and judges several at a time, in processes of its own: then those of many prompts
              come together
    """

    METRICS: ClassVar[dict[str, str]] = {}
    SPEAKS: ClassVar[bool] = False
    JUDGES: ClassVar[bool] = True
    AT_ONCE: ClassVar[bool] = False

    @property
    def alphabet(self) -> str:
        """Characters of its formats that may not stand in the texts of a data set: its tokenizer must know them."""
        return ""

    @abstractmethod
    def score(self, completion: str, answer: str) -> float:
        """1.0 if the completion gives the answer, else 0.0."""

    def judge(self, completions: Sequence[str], rows: Sequence[Mapping]) -> list[float]:
        """The score of every completion, each to a row of the data; all samples of a prompt come together, and may be compared."""
        return [self.score(completion, row["answer"]) for completion, row in zip(completions, rows, strict=True)]

    def of_row(self, row: Mapping) -> Verifier:
        """Who judges this row of the data: itself, or one that it leaves the row to."""
        return self

    def feedback(self, completion: str, answer: str) -> str:
        """What a context may show of a wrong completion; "" = nothing."""
        return ""

    def unreadable(self, answer: str) -> str:
        """What is wrong with an answer against which nothing can be judged; "" if nothing."""
        return ""

    def measure(self, completions: Sequence[str], answers: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
        """METRICS over samples; what is not defined on these samples is left out."""
        return {}
