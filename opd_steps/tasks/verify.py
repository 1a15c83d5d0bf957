"""Rewards of many completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Verifier(Protocol):
    """What judges completions; a file of tasks/verifiers.

    A verifier that measures more than correctness names it in `METRICS: ClassVar[tuple[str, ...]]`, which claims may then use as
    `<split>/<name>`, and has `measure(completions, answers, scores) -> dict[str, float]` over samples; what is undefined
    on these samples is left out. One whose formats need characters that may not stand in the texts has `alphabet`. One that
    cannot judge against every answer has `unreadable(answer) -> str`: what is wrong with this one, "" if nothing.
    """

    def score(self, completion: str, answer: str) -> float:
        """1.0 if the completion gives the answer, else 0.0."""


def rewards(verifier: Verifier, completions: Sequence[str], answers: Sequence[str]) -> list[float]:
    """`verifier.score` of every pair."""
    return [verifier.score(completion, answer) for completion, answer in zip(completions, answers, strict=True)]


def unreadable(verifier: Verifier, answer: str) -> str:
    """Why no completion can be judged against this answer; "" when it can."""
    if not answer.strip():
        return "is empty"
    return verifier.unreadable(answer) if hasattr(verifier, "unreadable") else ""


def measures(
    verifier: Verifier, completions: Sequence[str], answers: Sequence[str], scores: Sequence[float]
) -> dict[str, float]:
    """What the verifier measures beside correctness; nothing for most."""
    return verifier.measure(completions, answers, scores) if getattr(verifier, "METRICS", ()) else {}
