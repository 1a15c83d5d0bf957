"""A source whose corpus shows what a verifier says of wrong attempts, so that a model learns to use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from opd_steps.config.plugs import plug
from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class Corrected(Source):
    """Rows of the source `of`; a `share` of its train rows shows something in pretraining. With probability `demo` that is a right
    attempt, and behind it stands that attempt again; else it is the feedback of `verifier` on a wrong one, made from a right one by an
    error or, half of the time, by stopping early, and behind it stands that right one: begun alike, and gone on rightly.
    The data node's option `hints` says how both are written.
    """

    HINTS: ClassVar[bool] = True

    of: Any = plug("tasks/sources")
    verifier: Any = plug("tasks/verifiers")
    share: Annotated[float, "0 to 1"] = 0.7
    demo: Annotated[float, "0 to 1"] = 0.5

    def rows(self, seed: int) -> dict[str, list[dict]]:
        """Rows of `of`, those that show something with `hints` and their own `corpus`. Raises UserError where nothing can be said."""
        splits = self.of.rows(seed)
        train, draw = splits["train"], rng(seed, "corrected")
        answers = sorted({row["answer"] for row in train})
        return splits | {"train": [self._shown(row, answers, draw) if draw.random() < self.share else row for row in train]}

    def _shown(self, row: dict, answers: list[str], draw: np.random.Generator) -> dict:
        right = self.of.right_attempt(row, draw)
        if draw.random() < self.demo:
            return row | {"hints": {"right": [right], "wrong": []}, "corpus": right}
        if draw.random() < 0.5 and len(right) > 1:
            wrong = right[: 1 + int(draw.integers(len(right) - 1))]
        else:
            wrong = self.of.wrong_attempt(row | {"solution": right}, answers, draw)
        if self.verifier.score(wrong, row["answer"]):
            return row  # stopped where it was right already
        said = self.verifier.feedback(wrong, row["answer"])
        if not said:
            raise UserError("corrected.verifier", "it says nothing of wrong attempts; expected one with feedback")
        return row | {"hints": {"right": [], "wrong": [], "note": said}, "corpus": right}
