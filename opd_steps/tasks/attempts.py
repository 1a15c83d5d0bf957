"""Attempts at a prompt, right and wrong: what a demonstration or a peer's sample looks like, and how a context shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from opd_steps.errors import UserError


class Hints(Protocol):
    """How attempts are shown; a file of tasks/hints."""

    alphabet: str  # characters that it writes itself

    def hinted_prompt(self, prompt: str, right: Sequence[str], wrong: Sequence[str], note: str = "") -> str:
        """`prompt` with attempts marked as right or wrong, and a `note` to the reader; no attempts and no note: `prompt` itself."""


def right_attempt(source: object, row: dict, draw: np.random.Generator) -> str:
    """`source.right_attempt(row, draw)` where the source has it, else the solution."""
    made = getattr(source, "right_attempt", None)
    return made(row, draw) if made else row["solution"]


def wrong_attempt(source: object, row: dict, answers: Sequence[str], draw: np.random.Generator) -> str:
    """`source.wrong_attempt(row, answers, draw)` where the source has it, else the solution with another answer of the data set.

    `answers`: all answers, sorted and distinct. A solution that does not hold its answer becomes that other answer alone.
    """
    if made := getattr(source, "wrong_attempt", None):
        return made(row, answers, draw)
    if len(answers) < 2:
        raise UserError("hinted", "all rows have one answer: nothing that a wrong attempt could answer")
    shift = 1 + int(draw.integers(len(answers) - 1))
    other = answers[(answers.index(row["answer"]) + shift) % len(answers)]
    head, _, tail = row["solution"].rpartition(row["answer"])
    return head + other + tail if row["answer"] in row["solution"] else other
