"""Word problems in plain English from templates: a pretrained model reads them at once, and must learn to work a step a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np

from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.tasks.rows import row, splits
from opd_steps.tasks.sources import Source

WHO = ("Tom", "Anna", "Ben", "Mia", "Sam", "Lucy", "Omar", "Ella", "Jack", "Nina")
THINGS = ("apples", "marbles", "books", "coins", "stickers", "pencils", "shells", "cards", "eggs", "stamps")
TELLS = {
    "+": (
        "A friend gives {who} {n} more.",
        "{who} buys {n} more {things}.",
        "{who} finds another {n} {things} in a box.",
    ),
    "-": (
        "{who} sells {n} of them.",
        "{who} loses {n} {things} on the way home.",
        "{who} gives {n} of the {things} to a neighbour.",
    ),
    "*": (
        "{who} trades them for {n} times as many {things}.",
        "After a year of collecting, {who} has {n} times as many.",
    ),
}
_APPLY = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
_FEWEST, _FACTORS = 3, (2, 3, 4)
_PATIENCE = 2000  # draws without a new prompt before the space counts as used up


@dataclass(frozen=True)
class WordProblems(Source):
    """`Tom has 12 apples. A friend gives Tom 5 more. Tom sells 4 of them. How many apples does Tom have now?`, solved a step a line
    and ended as GSM8K's are: `12 + 5 = 17`, `17 - 4 = 13`, `#### 13`. Check answers with `numeric`.

    What is had never falls below 1 and never rises above `ceiling`.
    """

    CHECKS: ClassVar[tuple[str, ...]] = (
        "len(steps) >= 1",
        "len(ood_steps) >= 1",
        "len(operators) >= 1",
        "ceiling >= most",
    )

    steps: Annotated[list[int], "at least 1"] = field(default_factory=lambda: [2])  # of a problem, train and test
    ood_steps: Annotated[list[int], "at least 1"] = field(default_factory=lambda: [3])
    most: Annotated[int, "at least 3"] = 20  # largest number in a problem
    ceiling: Annotated[int, "at least 3"] = 99  # largest result of a step
    operators: list[Literal["+", "-", "*"]] = field(default_factory=lambda: ["+", "-", "*"])
    train: Annotated[int, "at least 1"] = 3000  # rows
    test: Annotated[int, "at least 0"] = 200
    ood: Annotated[int, "at least 0"] = 100

    def rows(self, seed: int) -> dict[str, list[dict]]:
        """Rows by split, all prompts distinct. Raises UserError when there are fewer prompts than rows asked for."""
        seen: set[str] = set()
        test = self._split(self.test, self.steps, rng(seed, "word_problems", "test"), seen)
        ood = self._split(self.ood, self.ood_steps, rng(seed, "word_problems", "ood"), seen)
        return splits(self._split(self.train, self.steps, rng(seed, "word_problems", "train"), seen), test, ood)

    def _split(self, count: int, steps: Sequence[int], draw: np.random.Generator, seen: set[str]) -> list[dict]:
        out: list[dict] = []
        misses = 0
        while len(out) < count:
            made = self._problem(steps[int(draw.integers(len(steps)))], draw)
            if made is None or made["prompt"] in seen:
                misses += 1
                if misses > _PATIENCE:
                    raise UserError("word_problems", f"only {len(seen)} distinct problems of this size; ask for fewer rows")
                continue
            misses = 0
            seen.add(made["prompt"])
            out.append(made)
        return out

    def _problem(self, steps: int, draw: np.random.Generator) -> dict | None:
        """A story of so many steps; None where one of them finds no number that keeps within bounds."""
        pick = lambda choices: choices[int(draw.integers(len(choices)))]
        words = {"who": pick(WHO), "things": pick(THINGS)}
        total = int(draw.integers(_FEWEST, self.most + 1))
        told, worked = ["{who} has {n} {things}.".format(n=total, **words)], []
        for _ in range(steps):
            operator = pick(self.operators)
            numbers = self._numbers(operator, total)
            if not numbers:
                return None
            number = pick(numbers)
            result = _APPLY[operator](total, number)
            told.append(pick(TELLS[operator]).format(n=number, **words))
            worked.append(f"{total} {operator} {number} = {result}\n")
            total = result
        told.append("How many {things} does {who} have now?".format(**words))
        return row(" ".join(told), str(total), f"{''.join(worked)}#### {total}", steps=steps)

    def _numbers(self, operator: str, total: int) -> Sequence[int]:
        """What may follow `total`; never 1, which would read badly."""
        if operator == "*":
            return [factor for factor in _FACTORS if total * factor <= self.ceiling]
        return range(2, 1 + min(self.most, total - 1 if operator == "-" else self.ceiling - total))
