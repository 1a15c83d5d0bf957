"""A split of prompts as a pool: token ids, what verifies the answers, and the data's own texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch

from opd_steps.errors import UserError
from opd_steps.nouns.heard import apart, woven
from opd_steps.nouns.task import Pool, Texts
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks
from opd_steps.tasks.asking import Task, load_split, load_task
from opd_steps.tasks.render import completion_text, judged_text, response_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AT_ONCE = 1 << 16  # rows of a split that are held as tokens
_BEHIND_A_PROMPT = ("answer", "solution", "corpus")


@dataclass(frozen=True)
class Written(Texts):
    """A text column of a split that is too large to be held as tokens."""

    pool: PromptPool
    column: str
    loss_on: str
    corpus: bool

    def __len__(self) -> int:
        return len(self.pool)

    def rows(self, index: Sequence[int]) -> Trajectory:
        return self.pool.written(self.column, self.loss_on, self.corpus, index)


@dataclass
class PromptPool(Pool):
    """Rows of a split, rendered on demand for one tokenizer. `place`: where they come from, for messages."""

    rows: Sequence[dict]
    task: Task
    tokenizer: PreTrainedTokenizerBase
    place: str = ""

    @classmethod
    def load(cls, folder: Path, split: str, tokenizer: PreTrainedTokenizerBase, limit: int = 0, **more: object) -> Self:
        """`more`: fields of a pool of its own kind."""
        rows = load_split(folder, split)
        if not rows:
            raise UserError(str(folder), f"the {split} split has no rows")
        return cls(rows[:limit] if limit else rows, load_task(folder), tokenizer, str(folder), **more)

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        return self.rows[index]["id"]

    def column(self, name: str, index: int) -> object:
        known = self.rows[index].get("meta", {}) | self.rows[index]
        if name not in known:
            raise UserError(self.place, f"no column '{name}'; found {', '.join(known)}")
        if name in _BEHIND_A_PROMPT and not known[name]:
            raise UserError(self.place, f"row {self.name(index)} has no {name}: its source gives prompts alone")
        return known[name]

    def contexts(self, ids: Sequence[int], corpus: bool = False) -> list[list[int]]:
        """Prompt token ids of some rows; with `corpus`, of the prompts as pretraining shows them (tasks/rows.py)."""
        rows = [self.rows[i] for i in ids]
        texts = [row.get("corpus_prompt", row["prompt"]) if corpus else row["prompt"] for row in rows]
        before = [row.get("before", ()) for row in rows]
        return [self.task.prompt_ids(self.tokenizer, text, said) for text, said in zip(texts, before, strict=True)]

    def hinted(self, index: int, right: Sequence[str] = (), wrong: Sequence[str] = (), note: str = "") -> list[int]:
        """Token ids of a row's prompt with attempts shown; the plain prompt where there are none (tasks/hints)."""
        row = self.rows[index]
        text = self.task.hints.hinted_prompt(row["prompt"], right, wrong, note)
        return self.task.prompt_ids(self.tokenizer, text, row.get("before", ()))

    def written(
        self, column: str, loss_on: str = "response", corpus: bool = False, ids: Sequence[int] | None = None
    ) -> Trajectory:
        """Prompts and a text column, end token included; with loss on all, every token but the first is a decision, on turns all that
        the assistant says in the chat."""
        if column not in self.rows[0]:
            raise UserError(self.place, f"no column '{column}'; found {', '.join(self.rows[0])}")
        ids = range(len(self)) if ids is None else ids
        if loss_on == "turns":
            return self._turns(column, ids)
        contexts = self.contexts(ids, corpus)
        responses = [response_ids(self.tokenizer, self.column(column, i)) for i in ids]
        if loss_on == "all":
            responses = [c[1:] + r for c, r in zip(contexts, responses, strict=True)]
            contexts = [c[:1] for c in contexts]
        return Trajectory(contexts, [torch.tensor(r) for r in responses], torch.tensor(ids, dtype=torch.long))

    def _turns(self, column: str, ids: Sequence[int]) -> Trajectory:
        """Contexts end where the assistant first begins; what others say from there on is heard."""
        contexts, actions, heard = [], [], []
        for i in ids:
            row = self.rows[i]
            (context, _), *turns = self.task.turns(self.tokenizer, row["prompt"], row.get("before", ()), self.column(column, i))
            tokens = torch.tensor([token for said, _ in turns for token in said])
            own, others = apart(tokens, torch.tensor([own for said, own in turns for _ in said]))
            contexts.append(context)
            actions.append(own)
            heard.append(others)
        return Trajectory(contexts, actions, torch.tensor(ids, dtype=torch.long), heard=heard)

    def texts(self, column: str, loss_on: str = "response", corpus: bool = False) -> Texts:
        """Of a large split each row is written when it is asked for."""
        if len(self) <= AT_ONCE:
            return self.written(column, loss_on, corpus)
        return Written(self, column, loss_on, corpus)

    def show(self, rows: Trajectory) -> list[str]:
        """The completions, what others wrote into them included, without special tokens, each up to the stop string that ended it."""
        closed = [False] * len(rows) if rows.closed_B is None else rows.closed_B.tolist()
        texts = [completion_text(self.tokenizer, tokens, end) for tokens, end in zip(woven(rows)[0], closed, strict=True)]
        return [text.removesuffix(stop) for text, stop in zip(texts, rows.stop or [""] * len(rows), strict=True)]

    def taken(self, rows: Trajectory) -> list[str]:
        """What the verifier judges."""
        pairs = zip(rows.contexts, self.show(rows), strict=True)
        return [judged_text(self.tokenizer, context, text) for context, text in pairs]

    def rewards(self, rows: Trajectory) -> list[float]:
        """The verifier's 0 or 1 for every row; it sees all samples of a prompt at once."""
        groups: dict[int, list[int]] = {}
        for i, prompt in enumerate(rows.prompt_B.tolist()):
            groups.setdefault(prompt, []).append(i)
        order = list(groups)
        mine = [order[g] for g in ranks.share(len(order))]  # a verifier may be slow, and judge by the time it takes
        judged = ranks.collect(self._judged(rows, [groups[prompt] for prompt in mine]))
        found = dict(zip((i for prompt in order for i in groups[prompt]), (r for each in judged for r in each), strict=True))
        return [found[i] for i in range(len(rows))]

    def _judged(self, rows: Trajectory, groups: list[list[int]]) -> list[list[float]]:
        """Of each group of row numbers the scores."""
        verifier = self.task.verifier
        calls = [[i for group in groups for i in group]] if verifier.AT_ONCE and groups else groups
        scores = {}
        for call in calls:
            asked = rows.rows(call)
            answers = [self.rows[prompt] for prompt in asked.prompt_B.tolist()]
            scores |= dict(zip(call, verifier.judge(self.taken(asked), answers), strict=True))
        return [[scores[i] for i in group] for group in groups]

    def measure(self, rows: Trajectory) -> dict[str, float]:
        """METRICS of the verifier."""
        answers = [self.rows[i]["answer"] for i in rows.prompt_B.tolist()]
        return self.task.verifier.measure(self.taken(rows), answers, [float(reward > 0) for reward in rows.reward_B])
