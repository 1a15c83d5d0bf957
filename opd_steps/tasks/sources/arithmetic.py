"""Chain arithmetic whose errors compound: a wrong step spoils every later one, as in long chains of thought."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np

from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.tasks.rows import row, splits
from opd_steps.tasks.sources import Source

_APPLY = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
MEND = "!"  # behind it stands what a step's result should have been
_PATIENCE = 2000  # draws without a new prompt before the space counts as used up


@dataclass(frozen=True)
class Arithmetic(Source):
    """Prompt `47+85+13=`, solution `47+85=32;32+13=45`: operators from left to right, every result modulo `modulus`.

    In `corpus` each step's result is, with probability `step_noise`, a wrong one (uniform), and the chain goes on from it:
    k steps end right with probability about (1 - step_noise)^k. Numbers are zero padded to one width, so that texts of
    equally many terms have equal length. Check answers with `exact` and `after: "="`.

    With probability `repair` a wrong step is mended, `47+85=33!32;32+13=45`, and the chain goes on from what stands behind the
    `!`: an error that can be taken back. Check answers with `or_after: ["!"]` as well.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("len(terms) >= 1", "len(ood_terms) >= 1", "len(operators) >= 1")

    digits: Annotated[int, "1 to 18"] = 2  # of an operand
    terms: Annotated[list[int], "at least 2"] = field(default_factory=lambda: [2, 3, 4])  # operands of a prompt, train and test
    ood_terms: Annotated[list[int], "at least 2"] = field(default_factory=lambda: [5])
    modulus: Annotated[int, "0 or at least 2"] = 100  # 0 = none
    operators: list[Literal["+", "-", "*"]] = field(default_factory=lambda: ["+"])
    step_noise: Annotated[float, "0 to 1"] = 0.12  # probability of a wrong step in the corpus
    repair: Annotated[float, "0 to 1"] = 0.0  # probability that a wrong step of the corpus is mended
    reverse: bool = False  # write numbers least significant digit first: easier to learn (arXiv 2307.03381)
    train: Annotated[int, "at least 1"] = 20000  # rows
    test: Annotated[int, "at least 0"] = 500
    ood: Annotated[int, "at least 0"] = 200

    def rows(self, seed: int) -> dict[str, list[dict]]:
        """Rows by split, all prompts distinct. Raises UserError when there are fewer prompts than rows asked for."""
        seen: set[str] = set()
        test = self._split(self.test, self.terms, (seed, "arithmetic", "test"), seen)
        ood = self._split(self.ood, self.ood_terms, (seed, "arithmetic", "ood"), seen)
        return splits(self._split(self.train, self.terms, (seed, "arithmetic", "train"), seen), test, ood)

    def _split(self, count: int, terms: Sequence[int], purpose: tuple, seen: set[str]) -> list[dict]:
        draw, mend = rng(*purpose), rng(*purpose, "repair")  # the same prompts and mistakes whatever is mended
        out: list[dict] = []
        misses = 0
        while len(out) < count:
            k = terms[int(draw.integers(len(terms)))]
            numbers = draw.integers(10**self.digits, size=k).tolist()
            operators = [self.operators[i] for i in draw.integers(len(self.operators), size=k - 1)]
            prompt = "".join(o + self.write(n) for o, n in zip(["", *operators], numbers, strict=True)) + "="
            if prompt in seen:
                misses += 1
                if misses > _PATIENCE:
                    raise UserError(
                        "arithmetic", f"only {len(seen)} distinct prompts of these digits and terms; ask for fewer rows"
                    )
                continue
            misses = 0
            seen.add(prompt)
            solution, value, _ = self._chain(numbers, operators, [0] * (k - 1))
            span = self.modulus or 10**self.digits
            shifts = [int(draw.integers(1, span)) if u < self.step_noise else 0 for u in draw.random(k - 1)]
            corpus, _, wrong = self._chain(numbers, operators, shifts, (mend.random(k - 1) < self.repair).tolist())
            out.append(row(prompt, self.write(value), solution, corpus, terms=k, wrong_steps=wrong))
        return out

    def wrong_attempt(self, row: dict, answers: Sequence[str], draw: np.random.Generator) -> str:
        """A chain that goes wrong at a uniform step and further, with probability `step_noise`, at others; never the right answer."""
        numbers = [int(t[::-1] if self.reverse else t) for t in re.findall(r"\d+", row["prompt"])]
        operators = re.findall(r"[-+*]", row["prompt"])
        span = self.modulus or 10**self.digits
        shifts = [int(draw.integers(1, span)) if u < self.step_noise else 0 for u in draw.random(len(operators))]
        at = int(draw.integers(len(operators)))
        shifts[at] = shifts[at] or int(draw.integers(1, span))
        text, value, _ = self._chain(numbers, operators, shifts)
        if self.write(value) == row["answer"]:  # the mistakes cancel: one more in the last step
            shifts[-1] += int(draw.integers(1, span))
            text, _, _ = self._chain(numbers, operators, shifts)
        return text

    def _chain(
        self, numbers: list[int], operators: list[str], shifts: list[int], mended: Sequence[bool] = ()
    ) -> tuple[str, int, int]:
        """(text of the steps, last result, wrong steps); `shifts` are added to the steps' results, `mended`: whether one is taken back."""
        steps, total = [], numbers[0]
        reduced = lambda value: value % self.modulus if self.modulus else value
        for i, (operator, number, shift) in enumerate(zip(operators, numbers[1:], shifts, strict=True)):
            right = _APPLY[operator](total, number)
            result = reduced(right + shift)
            text = f"{self.write(total)}{operator}{self.write(number)}={self.write(result)}"
            if shift and mended and mended[i]:
                result = reduced(right)
                text += f"{MEND}{self.write(result)}"
            steps.append(text)
            total = result
        return ";".join(steps), total, sum(map(bool, shifts))

    def write(self, number: int) -> str:
        """`number` as it stands in a text: zero padded, reversed if asked; a minus sign always comes first."""
        width = max(self.digits, len(str(self.modulus - 1)) if self.modulus else 1)
        text = f"{abs(number):0{width}d}"
        return ("-" if number < 0 else "") + (text[::-1] if self.reverse else text)
