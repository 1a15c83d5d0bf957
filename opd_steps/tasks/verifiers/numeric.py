"""The same number."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from opd_steps.tasks.verifiers import Verifier
from opd_steps.tasks.verifiers._answers import last_box, stated_number
from opd_steps.tasks.verifiers._numbers import number
from opd_steps.tasks.verifiers._spellings import plain


@dataclass(frozen=True)
class Numeric(Verifier):
    r"""1 if the number that a completion states equals the answer in value, else 0; exact, no rounding.

    Stated is the number behind the first `####` (GSM8K, arXiv 2110.14168), else in the last `\boxed{}`, else behind the last
    "answer is" or "Answer:", else the last one; a thought (`<think>`) is not read, and one that never ended scores 0. Reads
    1,234  $5  -3  .5  007  3e8  3 \times 10^8  1/2  \frac{1}{2}  1 1/2  1\,000  ５０%  25 cm^2, units and % being ignored.
    What is no number as a whole - 10:30, 2^10, 12-5 behind a marker, 48/2 - scores 0.
    """

    def score(self, completion: str, answer: str) -> float:
        gold = _strictly(answer)
        return float(gold is not None and stated_number(completion) == gold)

    def unreadable(self, answer: str) -> str:
        return "" if _strictly(answer) is not None else "is no number; take the verifier exact or math"


def _strictly(answer: str) -> Fraction | None:
    """The number that an answer is, all of it; behind its `####` or in its box if it has one."""
    _, _, text = answer.rpartition("####")
    text = plain(text if (box := last_box(text)) is None else box).strip()
    return number(text[:-1].rstrip() if text[-1:] in ("%", "°", ".") else text)
