"""Rewards of many completions."""

from __future__ import annotations

from collections.abc import Sequence

from opd_steps.tasks.verifiers import Verifier


def rewards(verifier: Verifier, completions: Sequence[str], answers: Sequence[str]) -> list[float]:
    """`verifier.score` of every pair."""
    return [verifier.score(completion, answer) for completion, answer in zip(completions, answers, strict=True)]


def unreadable(verifier: Verifier, answer: str) -> str:
    """Why no completion can be judged against this answer; "" when it can."""
    if not answer.strip():
        return "is empty"
    return verifier.unreadable(answer)
