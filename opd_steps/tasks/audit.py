"""All rows of a data set in one tokenizer, judged before anything trains on them."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from opd_steps.config import plugs
from opd_steps.errors import UserError
from opd_steps.models.external import followed
from opd_steps.models.folder import LINK, MODEL, read_tokenizer
from opd_steps.models.special import names_in
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.store.artifacts import read_manifest
from opd_steps.tasks.asking import load_task
from opd_steps.tasks.chat import CLOCK, TODAY, check_chat, templates
from opd_steps.tasks.pool import PromptPool
from opd_steps.tasks.render import response_ids


def model_place(folder: Path) -> Path:
    """A model node's checkpoint; linked weights are not read (the jobs that load them compare their hashes)."""
    if (folder / MODEL).is_dir():
        return folder / MODEL
    return followed(json.loads((folder / LINK).read_text()))


@dataclass
class Audit:
    """One data node in the tokenizer of one model node. Figures are tokens; places are `<file>:<line>`.

    notes   what is worth a line of the log, each once
    """

    data: Path
    model: Path
    notes: list[str] = field(default_factory=list)

    def __post_init__(self):
        """Raises UserError for a chat template that cannot show the data."""
        self.facts, self.tokenizer = read_manifest(self.model)["facts"], read_tokenizer(str(model_place(self.model)))
        task = load_task(self.data)
        if not task.chat:
            return
        try:
            check_chat(self.tokenizer, task.system, task.template)
        except UserError as error:
            raise UserError(error.where, f"{error.message} (data {self.data}, model {self.model})") from None
        if CLOCK.search(templates(self.tokenizer)):
            self.notes.append(f"the chat template of {self.model} asks for the date: it is told {TODAY:%d %B %Y}, always")

    def longest(self, split: str, column: str = "", limit: int = 0, context: str = "") -> tuple[int, str]:
        """(tokens of the longest row, its place): a prompt, with `column` also the text behind it and the end token.

        `context`: JSON of a plug of teachers/contexts that shows something in the prompt's place.

        Raises UserError naming the place of a row without a prompt, with a character that the tokenizer lacks, a token beyond
        the embedding, or an end token in mid row; and for a split without rows, and a column that is not there.
        """
        pool, file = PromptPool.load(self.data, split, self.tokenizer, limit), self.data / f"{split}.jsonl"
        if column and column not in pool.rows[0]:
            raise UserError(str(self.data), f"no column '{column}'; found {', '.join(pool.rows[0])}")
        most, named, lacking = (0, ""), Counter(), 0
        for i, row in enumerate(pool.rows):
            where = f"{file}:{i + 1}"
            try:
                (prompt,) = pool.contexts([i], corpus=column == "corpus")
                prompt = self._shown(pool, i, prompt, json.loads(context)) if context else prompt
                said = response_ids(self.tokenizer, row[column]) if column else []
            except UserError as error:
                raise UserError(where, f"{error.where}: {error.message}") from None
            self._judge(prompt, said, where)
            most = max(most, (len(prompt) + len(said), where), key=lambda pair: pair[0])
            named.update(names_in(self.tokenizer, row["prompt"]) + names_in(self.tokenizer, row.get(column, "")))
            lacking += self._lacks(prompt) or self._lacks(said)
        if named:
            shown = ", ".join(sorted(named)[:5])
            self._note(f"{file} holds names of special tokens ({shown}; {named.total()} in all): they are read as text")
        if lacking:
            self._note(f"{file}: {lacking} rows hold characters that the tokenizer of {self.model} lacks (its unknown token)")
        return most

    def _shown(self, pool: PromptPool, index: int, prompt: list[int], context: dict) -> list[int]:
        row = Trajectory([prompt], [torch.zeros(0, dtype=torch.long)], torch.tensor([index]))
        return (
            plugs.load("teachers/contexts", context).prepare(row, pool, 0, "teacher").extra.get("context:teacher", [prompt])[0]
        )

    def _judge(self, prompt: list[int], said: list[int], where: str) -> None:
        if (top := max(prompt + said)) >= (rows := self.facts["vocab_size"]):
            raise UserError(where, f"token {top}, and the embedding of {self.model} has {rows} rows")
        if found := [i for i in said[:-1] if i in self._ends]:
            name = self.tokenizer.convert_ids_to_tokens(found[0])
            raise UserError(where, f"the end token {name!r} of {self.model} stands inside this text")

    @cached_property
    def _ends(self) -> frozenset[int]:
        return frozenset(self.facts["ends"])

    def _lacks(self, ids: list[int]) -> bool:
        unknown = self.tokenizer.unk_token_id
        return unknown is not None and unknown not in self._ends and unknown in ids

    def _note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)
