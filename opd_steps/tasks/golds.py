"""Answers judged before anything is computed: the verifier must be able to read each, and to accept the row's own solution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opd_steps.errors import UserError
from opd_steps.tasks.verifiers import Verifier

_SHOWN = 60  # characters of an answer in a message


@dataclass
class Golds:
    """The answers of a split, some rows after the others. `drop`: rows whose answer cannot be read are left out; else they are refused."""

    verifier: Verifier
    split: str
    drop: bool
    rows: int = 0
    left_out: int = 0
    unsolved: int = 0
    first: str = ""  # what is said of the first that was left out
    wrong: str = ""  # the first solution that was rejected

    def readable(self, rows: Sequence[dict]) -> list[dict]:
        """Those whose answer the verifier can read."""
        kept = []
        for row in rows:
            if problem := unreadable(self.verifier.of_row(row), row["answer"]):
                self.left_out += 1
                self.first = self.first or f"{_place(row)}: the answer {row['answer'][:_SHOWN]!r} {problem}"
            else:
                kept.append(row)
        self.rows += len(kept)
        return kept

    def solve(self, rows: Sequence[dict]) -> None:
        """Count the solutions that the verifier does not accept."""
        if not self.verifier.JUDGES or (self.left_out and not self.drop):
            return
        scores = self.verifier.judge([row["solution"] for row in rows], rows)
        bad = [row for row, score in zip(rows, scores, strict=True) if score <= 0]
        self.unsolved += len(bad)
        if bad and not self.wrong:
            self.wrong = f"first {_place(bad[0])}"

    def tell(self, where: str, note: Callable[[str], None]) -> None:
        """After all rows: note what was left out and rejected. Raises UserError for the first that cannot be read, unless `drop`, and,
        naming `where`, when most solutions are rejected."""
        if self.left_out and not self.drop:
            place, _, said = self.first.partition(": the answer")
            more = f" ({self.left_out} such rows in {self.split})" if self.left_out > 1 else ""
            raise UserError(place, f"the answer{said}{more}, or leave such rows out with drop_unreadable: true")
        if self.left_out:
            note(f"{self.split}: left out {self.left_out} of {self.rows + self.left_out} rows; {self.first}")
        if 2 * self.unsolved > self.rows:
            said = f"rejects most solutions of {self.split} ({self.unsolved} of {self.rows}), {self.wrong}"
            raise UserError(where, f"{said}; are its options and the source's right?")
        if self.unsolved:
            note(f"{self.split}: the verifier rejects {self.unsolved} of {self.rows} solutions, {self.wrong}")


def unreadable(verifier: Verifier, answer: str) -> str:
    """Why no completion can be judged against this answer; "" when it can, or nobody judges."""
    if not verifier.JUDGES:
        return ""
    return verifier.unreadable(answer) if answer.strip() else "is empty"


def _place(row: dict) -> str:
    """Where a row comes from: file and line if its source says so."""
    return row.get("where", f"row {row['id']}")
