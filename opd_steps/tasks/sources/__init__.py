"""Where rows come from: prompts, answers and solutions in splits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from opd_steps.errors import UserError

if TYPE_CHECKING:
    import numpy as np


class Source(Protocol):
    """Makes or reads the rows of a data set (tasks/rows.py), and attempts at their prompts for contexts that show some.

    HINTS   whether its corpus shows attempts: then the data node's `hints` says how
    """

    HINTS: ClassVar[bool] = False

    @abstractmethod
    def rows(self, seed: int) -> dict[str, list[dict]]:
        """Rows by split: train, test, ood; train rows may come one after the other, to be gone through once. Raises UserError for what
        cannot be made or read."""

    @property
    def trains(self) -> bool:
        """Whether there have to be train rows: not of a set that is there to be evaluated on."""
        return True

    def right_attempt(self, row: dict, draw: np.random.Generator) -> str:
        """A right answer to a row's prompt, worked out: its solution."""
        return row["solution"]

    def wrong_attempt(self, row: dict, answers: Sequence[str], draw: np.random.Generator) -> str:
        """A wrong one: the solution with another answer of the data set; where the solution does not hold its answer, that alone.

        `answers`: all answers of the data set, sorted and distinct.
        """
        if len(answers) < 2:
            raise UserError("hinted", "all rows have one answer: nothing that a wrong attempt could answer")
        shift = 1 + int(draw.integers(len(answers) - 1))
        other = answers[(answers.index(row["answer"]) + shift) % len(answers)]
        head, _, tail = row["solution"].rpartition(row["answer"])
        return head + other + tail if row["answer"] in row["solution"] else other
