"""Verdicts of claims, read back from docs/claims*.md (`python -m tests.claims_table` wrote them)."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Judged:
    """A row of such a page: what was compared, and what came out. Cells are Markdown."""

    left: str
    op: str
    right: str
    verdict: str
    effect: str
    seeds: str

    def of(self, claim: dict) -> bool:
        """Whether it compared what a claim compares."""
        return (self.left, self.op, self.right) == (claim["left"], claim["op"], str(claim["right"]))


@dataclass(frozen=True)
class Run:
    """All of a page."""

    page: str  # "claims"
    when: str  # "2026-11-26, commit `79853b2`"
    claims: dict[tuple[str, str], list[Judged]]  # by paper and by what the claim says; two may say the same of other figures

    def papers(self) -> set[str]:
        return {paper for paper, _ in self.claims}


def read(file: Path) -> Run:
    """Raises ValueError where the page is not of the form that tests.claims_table writes."""
    page = file.read_text()
    when = re.search(r"\d{4}-\d\d-\d\d, commit `\w+`", page)
    if not when:
        raise ValueError(f"{file} names no date and commit")
    found: dict[tuple[str, str], list[Judged]] = {}
    for part in page.split("\n## ")[1:]:
        paper = re.match(r"\[(\w+)\]", part)[1]
        for line in part.splitlines():
            cells = [cell.strip().replace("∣", "|") for cell in line.split("|")[1:-1]]  # as that page spells | in a cell
            if len(cells) == 9 and cells[0] not in ("claim", "---"):
                says, left, right, verdict, effect, seeds = cells[:6]
                op, against = html.unescape(right).split(" ", 1)
                named = re.match(r"`([^`]+)`|(\S+)", against)
                left = re.match(r"`([^`]+)`", html.unescape(left))[1]
                judged = Judged(left, op, named[1] or named[2], verdict, effect, seeds)
                found.setdefault((paper, html.unescape(says)), []).append(judged)
    return Run(file.stem, when[0], found)
