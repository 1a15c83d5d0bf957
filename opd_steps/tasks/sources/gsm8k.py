"""GSM8K: grade-school word problems with worked solutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from opd_steps.errors import UserError
from opd_steps.tasks.gsm8k import ANNOTATION, load
from opd_steps.tasks.records import Records
from opd_steps.tasks.rows import row, splits
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class Gsm8k(Source):
    """Prompt: the question and a line break. Solution: the worked answer, which ends in `#### <number>` (arXiv 2110.14168)."""

    path: str = "openai/gsm8k"  # hub id, or a folder with train.jsonl and test.jsonl
    keep_annotations: bool = False  # leave the calculator's <<48/2=24>> in the solutions
    train: Annotated[int, "at least 0"] = 0  # first rows of the split; 0 = all
    test: Annotated[int, "at least 0"] = 0

    def rows(self, seed: int) -> dict[str, list[dict]]:
        found = load(self.path)
        parts = {
            split: [self._row(found[split], i) for i in range(min(limit or len(found[split].rows), len(found[split].rows)))]
            for split, limit in (("train", self.train), ("test", self.test))
            if split in found
        }
        return splits(parts["train"], parts.get("test", []))

    def _row(self, records: Records, index: int) -> dict:
        question, solution = records.column(index, "question"), records.column(index, "answer")
        _, marker, answer = solution.rpartition("####")
        if not marker:
            raise UserError(records.where(index), "the answer has no '#### <number>'")
        text = solution if self.keep_annotations else ANNOTATION.sub("", solution)
        return row(question + "\n", answer.strip().replace(",", ""), text) | {"where": records.where(index)}
