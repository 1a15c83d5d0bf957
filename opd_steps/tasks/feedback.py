"""What a tutor says, before a student is shown it: it must name something of the question, and must not give the answer away."""

from __future__ import annotations

import re
from collections.abc import Callable


def anchored(said: str, prompt: str, concept: str) -> bool:
    """Whether it names one of the concepts of the prompt: the matches of the pattern `concept` in it (of its group, if it has one)."""
    return any(name.casefold() in said.casefold() for name in re.findall(concept, prompt))


def kept(said: str, tells: Callable[[str], bool], unit: str, run: int) -> str:
    """`said` without what gives the answer away: each stretch of at most `run` matches of the pattern `unit` that `tells`, the longest
    first. "": where nothing else was said, or where what is left still tells."""
    while span := _telling(said, tells, unit, run):
        said = f"{said[: span[0]]}{said[span[1] :]}"
    said = said.strip()
    return "" if tells(said) else said


def _telling(said: str, tells: Callable[[str], bool], unit: str, run: int) -> tuple[int, int] | None:
    """The first of the longest stretches that tell."""
    units = [match.span() for match in re.finditer(unit, said)]
    for length in range(min(run, len(units)), 0, -1):
        for i in range(len(units) - length + 1):
            start, end = units[i][0], units[i + length - 1][1]
            if tells(said[start:end]):
                return start, end
    return None
