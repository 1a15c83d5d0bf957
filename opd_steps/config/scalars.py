"""Single values: what a text, a number and a truth value may look like, in YAML and on the command line.

Numbers are decimal, as YAML 1.2 writes them. `0100`, `1_000`, `24:00:00` and what overflows are no numbers, so that a text that
looks like a number to somebody else - a commit's hash, an arXiv id - is never read as one.
"""

from __future__ import annotations

import math
import re
from typing import Any

from opd_steps.errors import UserError

LONGEST = 2**63  # whole numbers stay below it
WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
NUMBER = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_TIME = re.compile(r"[0-9]+:[0-9]{2}(:[0-9]{2})?")
_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_NAMES = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}


def scalar(kind: type, value: Any, where: str) -> int | float | bool | str:
    """`value` as `kind`: int, float, bool or str. Raises UserError.

    A text that spells a number or a truth value becomes one (the command line has nothing but texts), but never the other
    way round: how a number was spelled is gone, `61e9540` would be infinity.
    """
    try:
        return _READ[kind](value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(where, f"expected {_NAMES[kind]}, found {shown(value)}{_hint(kind, value)}") from None


def plain(value: Any, where: str) -> Any:
    """A copy of what JSON can hold: text, finite numbers, truth values, null, lists and mappings by text. Raises UserError."""
    if isinstance(value, dict):
        return {text_key(name, where): plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float):
        return scalar(float, value, where)
    if value is None or isinstance(value, (str, int)):
        return value
    raise UserError(where, f"expected text, a number, true, false, a list or a mapping, found {shown(value)}")


def text_key(name: Any, where: str) -> str:
    """A mapping's key, which is text."""
    if not isinstance(name, str):
        raise UserError(where, f"expected text as a key, found {shown(name)}: put it in quotes")
    return name


def shown(value: Any) -> str:
    """The value as an error line shows it."""
    text = "nothing" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def _hint(kind: type, value: Any) -> str:
    if kind is str and isinstance(value, (int, float)):
        return ": put it in quotes"
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        return ": whole numbers stay below 2**63"
    if kind in (int, float) and isinstance(value, str) and _TIME.fullmatch(value):
        return ": a time is one number, in the unit that docs/options.md names"
    return ""


def _whole(value: Any) -> int:
    if isinstance(value, str):
        value = int(value) if WHOLE.fullmatch(value) else _number(value)
    if isinstance(value, bool) or value != int(value) or abs(value) >= LONGEST:
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or (isinstance(value, str) and not NUMBER.fullmatch(value)):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in _TRUTHS:
        raise ValueError
    return _TRUTHS[value.lower()]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


_READ = {int: _whole, float: _number, bool: _truth, str: _text}
