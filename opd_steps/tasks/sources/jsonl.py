"""Your own prompts and answers in JSONL files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from opd_steps.tasks.records import from_jsonl, hold_out
from opd_steps.tasks.rows import splits
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class Jsonl(Source):
    """One JSONL file, or a folder with train.jsonl and perhaps test.jsonl and ood.jsonl.

    A prompt that stands in test or ood is dropped from train. Raises UserError naming file and line.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("messages == '' or prompt == 'prompt'",)

    path: str
    prompt: str = "prompt"  # column names
    messages: str = (
        ""  # in place of prompt: a column that is a chat, [{role, content}, ...], up to a user's message or the answer to it
    )
    answer: str = "answer"
    solution: str = ""  # empty: the answer is the whole solution
    columns: list[str] = field(
        default_factory=list
    )  # further ones that stay with the rows, e.g. the domain that teachers are routed by
    test: Annotated[int, "at least 0"] = 0  # rows held out of train, when there is no test.jsonl

    def rows(self, seed: int) -> dict[str, list[dict]]:
        parts = {
            split: r.to_rows(self.prompt, self.answer, self.solution, self.columns, chat=self.messages)
            for split, r in from_jsonl(self.path).items()
        }
        if "test" not in parts:
            parts["train"], parts["test"] = hold_out(parts["train"], self.test, seed, self.path)
        return splits(parts["train"], parts["test"], parts.get("ood", []))
