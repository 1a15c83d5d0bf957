"""Reading numbers, exactly: one that is a whole text, and the last one of a text. Both take plain texts (_spellings.py)."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

_LONGEST = 10_000  # characters of a number
_HIGHEST = 5_000  # exponents beyond are not computed
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}

# a minus directly behind a number, a word or a bracket is an operator
SIGN = r"(?:(?<![\w)])[-+])?"
_GROUPED = r"[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]{1,2}(?:,[0-9]{2}(?=,))++,[0-9]{3}(?![0-9])"  # 1,234,567 and 12,34,567
DIGITS = rf"(?:(?:{_GROUPED}|[0-9]++)(?:\.[0-9]++)?|\.[0-9]++)"
_TIMES_TEN = r"\s?[×*x]\s?10\s?\^\s?"
_SCALE = rf"\s(?:{'|'.join(_SCALES)})\b"
_TAIL = rf"(?:{_TIMES_TEN}[-+]?[0-9]++|[eE][-+]?[0-9]++(?![0-9A-Za-z])|\s?/\s?{DIGITS}|[:^_][-+]?{DIGITS}|\.[0-9]++|{_SCALE})"
# all that is written together: what is no number as a whole - 10:30, 2^10, 1.2.3, 1011_2 - has no number in it
CHUNK = rf"{SIGN}(?:[0-9]++\s(?:and\s)?(?=[0-9]++/[0-9]))?{DIGITS}{_TAIL}*+"

_UNIT_POWER = r"(?<=[A-Za-z°])[_^]\{?[-+]?[0-9]++|\b(?:[mck]?m|ft|in|yd|mi)[23]\b"  # cm^2, m2, x_1: no numbers of their own
# roots and powers: their digits are not the answer
_UNREAD = r"\\(?:[dtc]?frac|sqrt|pi|binom)(?![a-zA-Z])[^\s$]*|\)\s?(?:!|\^)|\^\s?[({][^(){}\s]*"
_TOKEN = re.compile(rf"(?P<skip>{_UNIT_POWER})|(?P<chunk>{CHUNK})|(?P<unread>{_UNREAD})")

_NUMBER = re.compile(
    rf"""(?P<sign>[-+]?)\s?(?:
      (?:(?P<whole>[0-9]+)\s(?:and\s)?)? (?P<top>{DIGITS})\s?/\s?(?P<bottom>{DIGITS})
    | 10\^(?P<ten>[-+]?[0-9]+)
    | (?P<mantissa>{DIGITS}) (?:[eE](?P<e>[-+]?[0-9]+) | {_TIMES_TEN}(?P<p>[-+]?[0-9]+))? (?:\s(?P<scale>{"|".join(_SCALES)}))?
    )""",
    re.VERBOSE,
)


def number(text: str) -> Fraction | None:
    """The value of a text that is one number, else None: 1,234.5  .5  007  3e8  3×10^8  10^-7  1/2  1 1/2  5 million.

    A fraction that is an integer (48/2) is a division left undone: None, as for every other expression.
    """
    found = _NUMBER.fullmatch(text) if len(text) <= _LONGEST else None
    if not found:
        return None
    sign = -1 if found["sign"] == "-" else 1
    if found["top"]:
        top, bottom, whole = (_decimal(found[part] or "0") for part in ("top", "bottom", "whole"))
        if not bottom or (found["whole"] and top >= bottom) or (bottom != 1 and (top / bottom).denominator == 1):
            return None
        return sign * (whole + top / bottom)
    exponents = [int(found[part][:9] or 0) for part in ("ten", "e", "p") if found[part]]
    if any(abs(exponent) > _HIGHEST for exponent in exponents):
        return None
    scale = _SCALES.get(found["scale"] or "", 0)
    return sign * _decimal(found["mantissa"] or "1") * Fraction(10) ** (sum(exponents) + scale)


def last_number(text: str) -> Fraction | None:
    """The value of the last number of a text; None without one, or when what stands there is no number as a whole."""
    last = None
    for found in _TOKEN.finditer(text):
        if found["skip"] is None:
            last = found
    return number(last[0]) if last and last["chunk"] else None


def _decimal(text: str) -> Fraction:
    return Fraction(Decimal(text.replace(",", "")))
