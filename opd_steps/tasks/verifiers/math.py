"""The same mathematical object, whatever its notation."""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import dataclass
from typing import Annotated

# sympy computes towers of powers, huge exponents and factorials digit by digit, in C, where no timeout reaches
_POWER = r"(?:\^|\*\*)[\s{(]*[0-9]"
_EXPLOSIVE = re.compile(rf"{_POWER}+[\s}})]*(?:\^|\*\*|!)|{_POWER}{{5,}}|[0-9]{{5,}}[\s}})]*!|![\s}})]*!")


@dataclass(frozen=True)
class Math:
    r"""1 if math-verify finds the completion's answer - its last \boxed{}, else what it can extract - equal to `answer`.

    Off the main thread math-verify's timeouts (signals) cannot run: it then runs without.
    """

    timeout: Annotated[int, "at least 1"] = 5  # seconds of parsing and of comparing

    def score(self, completion: str, answer: str) -> float:
        from math_verify import parse, verify  # sympy: a second of import

        logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns of every missing timeout
        limit = self.timeout if threading.current_thread() is threading.main_thread() else None
        text = completion[max(completion.rfind("\\boxed"), 0) :]
        if _EXPLOSIVE.search(text):
            return 0.0
        boxed = answer if "\\boxed" in answer else f"\\boxed{{{answer}}}"
        gold = parse(boxed, parsing_timeout=limit)
        return float(verify(gold, parse(text, parsing_timeout=limit), timeout_seconds=limit))
