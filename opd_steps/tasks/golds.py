"""Answers judged before anything is computed: the verifier must be able to read each, and to accept the row's own solution."""

from __future__ import annotations

from collections.abc import Callable

from opd_steps.errors import UserError
from opd_steps.tasks.verifiers import Verifier

_SHOWN = 60  # characters of an answer in a message
Splits = dict[str, list[dict]]


def readable(verifier: Verifier, splits: Splits, drop: bool, note: Callable[[str], None]) -> Splits:
    """The splits without the rows whose answer the verifier cannot read, which are noted; UserError on the first one unless `drop`."""
    kept: Splits = {}
    for split, rows in splits.items():
        problems = [unreadable(verifier, row["answer"]) for row in rows]
        bad = [i for i, problem in enumerate(problems) if problem]
        kept[split] = [row for row, problem in zip(rows, problems, strict=True) if not problem]
        if not bad:
            continue
        first = rows[bad[0]]
        said = f"the answer {first['answer'][:_SHOWN]!r} {problems[bad[0]]}"
        if not drop:
            more = f" ({len(bad)} such rows in {split})" if len(bad) > 1 else ""
            raise UserError(_place(first), f"{said}{more}, or leave such rows out with drop_unreadable: true")
        note(f"{split}: left out {len(bad)} of {len(rows)} rows; {_place(first)}: {said}")
    return kept


def unreadable(verifier: Verifier, answer: str) -> str:
    """Why no completion can be judged against this answer; "" when it can, or nobody judges."""
    if not verifier.JUDGES:
        return ""
    return verifier.unreadable(answer) if answer.strip() else "is empty"


def unsolved(verifier: Verifier, splits: Splits, where: str, note: Callable[[str], None]) -> dict[str, int]:
    """By split, how many solutions the verifier does not accept, which is noted; UserError when it is most of a split."""
    if not verifier.JUDGES:
        return dict.fromkeys(splits, 0)
    counts = {}
    for split, rows in splits.items():
        scores = verifier.judge([row["solution"] for row in rows], rows)
        bad = [row for row, score in zip(rows, scores, strict=True) if score <= 0]
        counts[split] = len(bad)
        if 2 * len(bad) > len(rows):
            said = f"rejects most solutions of {split} ({len(bad)} of {len(rows)}), first {_place(bad[0])}"
            raise UserError(where, f"{said}; are its options and the source's right?")
        if bad:
            note(f"{split}: the verifier rejects {len(bad)} of {len(rows)} solutions, first {_place(bad[0])}")
    return counts


def _place(row: dict) -> str:
    """Where a row comes from: file and line if its source says so."""
    return row.get("where", f"row {row['id']}")
