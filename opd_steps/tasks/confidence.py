"""How a completion states its confidence: one mark, or a line in words. Read, written and taken off in one place."""

from __future__ import annotations

import re

from opd_steps.tasks.thoughts import after_thought

MARKS = "ABCDEFGHIJK"  # A = 0, B = .1, ..., K = 1
_LINE = re.compile(r"\n?\*{0,2}Confidence\*{0,2}:\*{0,2}\s*([0-9]*+\.[0-9]++|[0-9]++)\s?(%?)[\s.*]*+\Z", re.IGNORECASE)


def state(value: float, style: str) -> str:
    """The statement of a confidence: `mark`, the nearest tenth as one of A..K; `words`, a last line `Confidence: 0.75`."""
    if not 0 <= value <= 1:
        raise ValueError(f"a confidence lies between 0 and 1, not {value}")
    return MARKS[int(10 * value + 0.5)] if style == "mark" else f"\nConfidence: {value:.2f}"


def split(text: str, style: str) -> tuple[str, float | None]:
    """(completion without its statement, stated confidence); without a valid statement at its end, or in a thought, (text, None)."""
    if after_thought(text) is None:
        return text, None
    if style == "mark":
        body = text.rstrip()
        return (body[:-1], MARKS.index(body[-1]) / 10) if body and body[-1] in MARKS else (text, None)
    found = _LINE.search(text)
    value = float(found[1]) / (100 if found[2] else 1) if found else None
    if value is None or value > 1:
        return text, None
    return text[: found.start()], value
