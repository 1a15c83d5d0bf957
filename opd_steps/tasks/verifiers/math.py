"""The same mathematical object, whatever its notation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from opd_steps.tasks.at_once import at_once
from opd_steps.tasks.thoughts import after_thought
from opd_steps.tasks.verifiers import Verifier, _worker
from opd_steps.tasks.verifiers._answers import last_box, marked_number, quantity
from opd_steps.tasks.verifiers._spellings import plain

# towers of powers, huge exponents, factorials of many digits: sympy would compute them to the time limit
_POWER = r"(?:\^|(?<=[\w)}])\*\*)[\s{(]*[0-9]"
_EXPLOSIVE = re.compile(rf"{_POWER}+[\s}})]*(?:\^|\*\*|!)|{_POWER}{{5,}}|[0-9]{{5,}}[\s}})]*!|![\s}})]*!")
# times, ratios, bases, names: what math-verify would compute with counts only as it is written
_AS_WRITTEN = re.compile(r"[0-9]:[0-9]|[0-9]_\{?[0-9]|[0-9]\s*[AaPp]\.?[Mm]\b|\A(?:[A-Z]{2,}|[A-Za-z]{4,})\Z")
_NO_VALUE = ("nan", "inf", "-inf", "infinity", "-infinity", "null")


@dataclass(frozen=True)
class Math(Verifier):
    r"""1 if the completion's answer equals `answer` as a mathematical object, else 0.

    The answer stands in the last `\boxed{}`, as for the graders of MATH (arXiv 2103.03874), else behind the first `####` or the
    last "answer is"; without these math-verify extracts it. A thought (`<think>`) is not read, and one that never ended scores 0.
    Two numbers are compared exactly, units and % being ignored (AIME's 042 is 42); times, ratios, bases and words as they are
    written; all else by math-verify, to 15 digits, in a process that ends after `timeout` seconds of CPU time: then 0.
    """

    AT_ONCE: ClassVar[bool] = True

    timeout: Annotated[int, "at least 1"] = 5  # seconds of CPU time for parsing and comparing

    def score(self, completion: str, answer: str) -> float:
        text = after_thought(completion)
        if text is None:
            return 0.0
        gold, box = _gold(answer), last_box(text)
        if box is not None:
            return float(self._equal(gold, box))
        _, value = marked_number(text)
        if value is not None:
            return float(self._equal(gold, str(value)))
        return float(bool(text.strip()) and self._compared(_boxed(gold), text))

    def judge(self, completions: Sequence[str], rows: Sequence[Mapping]) -> list[float]:
        pairs = list(zip(completions, (row["answer"] for row in rows), strict=True))
        return at_once(lambda pair: self.score(*pair), pairs)

    def unreadable(self, answer: str) -> str:
        gold = _gold(answer)
        if not _written(gold) or _written(gold) in _NO_VALUE:
            return "is no value"
        braces = re.sub(r"\\[{}]", "", gold)
        return "" if braces.count("{") == braces.count("}") else "has unbalanced braces"

    def _equal(self, gold: str, answer: str) -> bool:
        values = quantity(gold), quantity(answer)
        if None not in values:
            return values[0] == values[1]
        written = _written(gold), _written(answer)
        if written[0] == written[1]:
            return written[0] != ""
        if any(_AS_WRITTEN.search(plain(text).strip()) for text in (gold, answer)):
            return False
        return bool(written[1]) and self._compared(_boxed(gold), _boxed(answer))

    def _compared(self, gold: str, answer: str) -> bool:
        if any(_EXPLOSIVE.search(plain(text)) for text in (gold, answer)):
            return False
        return _worker.equal(gold, answer, self.timeout)


def _gold(answer: str) -> str:
    """What stands in a gold's last box or behind its `####`, else all of it."""
    box = last_box(answer)
    return answer.rpartition("####")[2].strip() if box is None else box


def _boxed(text: str) -> str:
    return f"\\boxed{{{text}}}"


def _written(text: str) -> str:
    """A text without spaces, the case of letters and a full stop."""
    return re.sub(r"\s+", "", plain(text)).rstrip(".").casefold()
