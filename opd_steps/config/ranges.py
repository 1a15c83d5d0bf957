"""Ranges of options, as they stand beside the type: `lr: Annotated[float, "at least 0"] = 1e-3`.

    range   any | part, part or part       or: either of two, e.g. "0 or at least 2"
    part    above x | at least x | below x | at most x | x to y (both included) | x

The same words stand in the docs and in a user's error line. The range of a list or mapping is that of each of its numbers. "any" is any
finite number: no option is NaN or infinite, and no whole number is longer than 63 bits.

A rule between options is written beside them, as `CHECKS: ClassVar[tuple[str, ...]] = ("low <= high",)`: a Python expression
over the options' names, with dots for nested ones. An error names the first option of the rule.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from types import CodeType
from typing import Any

from opd_steps.config.scalars import shown
from opd_steps.errors import UserError

_FUNCTIONS = {"len": len, "sorted": sorted, "min": min, "max": max, "unique": lambda items: len(set(items)) == len(items)}
_NUMBER = r"-?[0-9.]+(?:e-?[0-9]+)?"
_NAME = re.compile(r"[a-z_]\w*(?:\.\w+)*")
_PART = re.compile(rf"(?:(above|at least|below|at most) )?({_NUMBER})(?: to ({_NUMBER}))?")
_TESTS: dict[str, Callable[[float, float], bool]] = {
    "above": lambda value, bound: value > bound,
    "at least": lambda value, bound: value >= bound,
    "below": lambda value, bound: value < bound,
    "at most": lambda value, bound: value <= bound,
    "": lambda value, bound: value == bound,
}


def check(rule: str, options: dict, where: str) -> None:
    """Raises UserError where a rule of CHECKS does not hold."""
    if not eval(_compiled(rule), {"__builtins__": _FUNCTIONS}, _Names(options)):
        found = dict(_named(name, options) for name in _NAME.findall(rule))
        found.pop("", None)
        values = ", ".join(f"{name} {shown(value)}" for name, value in found.items())
        raise UserError(f"{where}.{next(iter(found))}", f"expected {rule}; found {values}")


def _named(name: str, options: dict) -> tuple[str, Any]:
    """(the part of a dotted name that names an option, its value); ("", all options) for a name that is none, as `len`."""
    value, path = options, []
    for part in name.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
            path.append(part)
    return ".".join(path), value


class _Names(dict):
    """The names of a rule: options, with nested ones as their attributes."""

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        return _Names(value) if isinstance(value, dict) else value

    __getattr__ = __getitem__


@cache
def _compiled(rule: str) -> CodeType:
    return compile(rule, "CHECKS", "eval")


def inside(value: float, words: str) -> bool:
    """Whether a finite number lies in the range. Raises ValueError where the words are no range."""
    return any(all(test(value) for test in parts) for parts in _read(words))


@cache
def _read(words: str) -> list[list[Callable[[float], bool]]]:
    return [[]] if words == "any" else [[_part(part) for part in choice.split(", ")] for choice in words.split(" or ")]


def _part(words: str) -> Callable[[float], bool]:
    match = _PART.fullmatch(words)
    if not match or (match[1] and match[3]):
        raise ValueError(f"no range: {words!r}")
    test, low = _TESTS[match[1] or ""], float(match[2])
    if match[3]:
        high = float(match[3])
        return lambda value: low <= value <= high
    return lambda value: test(value, low)
