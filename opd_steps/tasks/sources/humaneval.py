"""HumanEval: functions to be written from their head and docstring, with tests; and other data sets of its form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

from opd_steps.errors import UserError
from opd_steps.store.jsonl import read_jsonl
from opd_steps.store.sources import here
from opd_steps.tasks.records import Records, from_hub, from_jsonl, hold_out
from opd_steps.tasks.rows import row, splits
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class HumanEval(Source):
    """Prompt: imports, helpers, the function's head and docstring. Solution: its body. Answer: what the verifier `code` runs
    (arXiv 2107.03374). Keys of a record: prompt, entry_point, canonical_solution, test. HumanEval itself is test rows alone.
    """

    path: str = "openai/openai_humaneval"  # hub id, a JSONL file, or a folder: train.jsonl and test.jsonl, or one JSONL file
    train: Annotated[int, "at least 0"] = 0  # rows to train on instead, drawn by the seed; of a set without train rows

    @property
    def trains(self) -> bool:
        return self.train > 0

    def rows(self, seed: int) -> dict[str, list[dict]]:
        found = self._found()
        parts = {split: [self._row(records, i) for i in range(len(records.rows))] for split, records in found.items()}
        if "train" not in parts:
            parts["test"], parts["train"] = hold_out(parts["test"], self.train, seed, self.path)
        elif self.train:
            raise UserError("source.train", f"{self.path} has train rows of its own")
        return splits(parts["train"], parts.get("test", []))

    def _found(self) -> dict[str, Records]:
        root = here(self.path)
        if root is None:
            return from_hub(self.path, {"test": "test"})
        files = sorted(root.glob("*.jsonl")) if root.is_dir() else [root]
        if root / "train.jsonl" in files:
            return from_jsonl(self.path)
        if len(files) != 1:
            found = ", ".join(file.name for file in files) or "none"
            raise UserError(self.path, f"expected train.jsonl and test.jsonl, or one JSONL file; found {found}")
        return {"test": Records(str(files[0]), read_jsonl(files[0]), lines=True)}

    def _row(self, records: Records, index: int) -> dict:
        prompt, function, solution, tests = (
            records.column(index, key) for key in ("prompt", "entry_point", "canonical_solution", "test")
        )
        answer = json.dumps({"prompt": prompt, "function": function, "solution": solution, "tests": tests})
        return row(prompt, answer, solution) | {"where": records.where(index)}
