"""The same number."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

# a minus directly behind a number, a word or a bracket is an operator, not a sign
_NUMBER = re.compile(r"(?:(?<![\w)])-)?(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)")


@dataclass(frozen=True)
class Numeric:
    """1 if the last number of the completion equals the answer's in value, else 0; behind the last `####` if there is one.

    Reads 1,234  $5  -3  .5  007  2.50; compares decimals exactly.
    """

    def score(self, completion: str, answer: str) -> float:
        value = last_number(completion.rpartition("####")[2])
        return float(value is not None and value == last_number(answer.rpartition("####")[2]))


def last_number(text: str) -> Decimal | None:
    """The last number of a text, or None."""
    found = _NUMBER.findall(text.replace("\u2212", "-").replace("$", ""))
    return Decimal(found[-1].replace(",", "")) if found else None
