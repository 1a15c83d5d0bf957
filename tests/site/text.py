"""Pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable


def plain(text: str) -> str:
    """Prose of comments and notes as a paragraph: what is not between backticks has no markup."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<>\[\]#|~])", r"\\\1", part) for part in parts)


def told(text: str) -> str:
    """A docstring or comment: its prose as paragraphs; what is indented or set in columns, formulas as a rule, as it stands."""
    parts: list[tuple[bool, list[str]]] = []
    for line in text.splitlines():
        columns = bool(re.match(" {2}", line) or re.search(r"\S {3,}\S", line))
        if columns:
            if not parts or not parts[-1][0]:
                parts.append((True, []))
            parts[-1][1].append(line)
        elif not line.strip():
            parts.append((False, []))
        elif parts and not parts[-1][0] and _goes_on(parts[-1][1], line):
            parts[-1][1].append(line)
        else:
            parts.append((False, [line]))
    return "\n".join(
        verbatim("\n".join(lines)) if columns else plain(" ".join(lines)) + "\n" for columns, lines in parts if lines
    )


def _goes_on(before: list[str], line: str) -> bool:
    """Whether a line goes on with the paragraph before it: that line was full, and this one begins no entry of its own."""
    return not before or (len(before[-1]) > FULL and not re.match(r"`?\w+`?(:| = | {2,})", line))


FULL = 90
"""Signs of a line that was broken because it was full."""


def verbatim(text: str, language: str = "text") -> str:
    """A block of code."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def folded(title: str, body: str) -> str:
    """Opened by a click."""
    return f"<details>\n<summary>{title}</summary>\n\n{body}\n</details>\n"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Cells are Markdown."""
    lines = [[*head], ["---"] * len([*head]), *rows]
    return "\n".join("| " + " | ".join(cell.replace("\n", " ") for cell in row) + " |" for row in lines) + "\n"


def toctree(*pages: str) -> str:
    """The order of the pages at the side; nothing on the page itself."""
    return "```{toctree}\n:hidden:\n\n" + "\n".join(pages) + "\n```\n"
