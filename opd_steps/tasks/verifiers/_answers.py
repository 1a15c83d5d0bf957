r"""Where the answer stands in a completion: behind `####`, in its last box, behind "the answer is", at its end."""

from __future__ import annotations

import re
from fractions import Fraction

from opd_steps.tasks.thoughts import after_thought
from opd_steps.tasks.verifiers._numbers import CHUNK, last_number, number
from opd_steps.tasks.verifiers._spellings import plain

_BOX = re.compile(r"\\f?boxed(?![a-zA-Z])\s*")

_OPEN = r"[\s:*_=≈({\[\"'`>]*"
# an equation counts by its right side: 5 + 6 = 11, x = 11, f(2) = 11
_EQUATION = r"(?:(?:\\?[A-Za-z]\w{0,20}(?:\(\w{1,20}\))?|[-+*/×÷0-9.,()%^ ]{1,80})\s?=\s*)*+"
_LABEL = r"[^0-9.\n]{0,80}?(?:\b(?:is|are|be|equals)\b|[:=])"
# behind a number: it is part of an expression, 12-5, 2\sqrt{3}, 3x, or of a list, 3,4
_OPERAND = (
    r"(?:[ \t]?[-+*/×÷^=x][ \t]?(?=[0-9(\\])|\((?=[0-9])|[ \t]?\\(?:sqrt|pi|[dtc]?frac)|,(?=[0-9])|[ \t]or[ \t](?=[-0-9])"
    r"|[abceijknopqruxyz](?![A-Za-z]))"
)
_STATED = rf"{_OPEN}{_EQUATION}{_OPEN}(?P<chunk>{CHUNK})(?P<more>{_OPERAND})?"
_HASHES = re.compile(rf"#{{4}}(?:{_OPEN}|{_LABEL}){_STATED}(?P<item>[.):]\s+[A-Za-z*])?")
_SAID = re.compile(
    rf"(?:\banswers?\b{_LABEL}|<answer>)(?:\s+(?:therefore|thus|simply|exactly|equal to|about|approximately))?{_STATED}",
    re.IGNORECASE,
)

_POWER = r"(?:\^[-+]?[0-9]+|[23])?"
_WORD = rf"[A-Za-z°]{{1,20}}\.?{_POWER}"
# a single letter right behind a number is a variable: 3x
_UNIT = re.compile(rf"\s*[%°]?(?:(?:\s+[A-Za-z]|[A-Za-z]{{2,20}}|\s*°[A-Za-z]?)\.?{_POWER}(?:[\s/×]+{_WORD})*+)?[\s.]*")
_NO_UNIT = re.compile(r"\b(?:and|or|to|of|pi|sqrt|mod|plus|minus|times|over|am|pm)\b|\b[ap]\.m\b", re.IGNORECASE)


def last_box(text: str) -> str | None:
    r"""What stands in the last `\boxed{...}`; "" when it never closes, None without a box. Also `\fbox{5}` and `\boxed 5`."""
    if (last := _last(_BOX, text)) is None:
        return None
    if text[last.end() : last.end() + 1] != "{":
        return re.match(r"[^\s$]*", text[last.end() :])[0]
    depth = 0
    for brace in re.finditer(r"(?<!\\)[{}]", text[last.end() :]):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return text[last.end() + 1 : last.end() + brace.start()]
    return ""


def quantity(text: str) -> Fraction | None:
    """The number that a text states, which may be an equation's right side and bear a unit: `x = 25 cm^2`; None for all else."""
    text = plain(text).strip()
    if re.fullmatch(r"[(\[{][^,()\[\]{}]*[)\]}]", text):
        text = text[1:-1].strip()
    found = re.match(rf"{_EQUATION}≈?\s?(?P<chunk>{CHUNK})(?P<unit>.*)", text, re.DOTALL)
    if not found or not _UNIT.fullmatch(found["unit"]) or _NO_UNIT.search(found["unit"]):
        return None
    return number(found["chunk"])


def marked_number(text: str) -> tuple[bool, Fraction | None]:
    r"""(is an answer marked?, its value): behind the first `####`, in the last box, behind the last "answer is" or "Answer:"."""
    said = plain(text)
    hashes = list(_HASHES.finditer(said))
    for found in hashes:
        if not found["item"]:  # `#### 1. Add them up` is a heading
            return True, _value(found)
    if (box := last_box(text)) is not None:
        return True, quantity(box)
    if last := _last(_SAID, said) or next(iter(hashes), None):
        return True, _value(last)
    return False, None


def stated_number(completion: str) -> Fraction | None:
    """The number that a completion gives as its answer: the marked one, else the last."""
    text = after_thought(completion)
    if text is None:
        return None
    marked, value = marked_number(text)
    return value if marked else last_number(plain(text.rpartition("####")[2]))


def _last(pattern: re.Pattern, text: str) -> re.Match | None:
    last = None
    for found in pattern.finditer(text):
        last = found
    return last


def _value(found: re.Match) -> Fraction | None:
    return None if found["more"] else number(found["chunk"])
