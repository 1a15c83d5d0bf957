"""A split as a pool of prompts: token ids, what verifies the answers, and which prompts belong to a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from opd_steps.errors import UserError
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks
from opd_steps.seeds import derive, epoch_order
from opd_steps.tasks.dataset import Task, load_split, load_task
from opd_steps.tasks.render import completion_text
from opd_steps.tasks.verify import rewards


@dataclass
class PromptPool:
    """Rows of a split, rendered on demand for one tokenizer."""

    rows: list[dict]
    task: Task
    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def load(cls, folder: Path, split: str, tokenizer: PreTrainedTokenizerBase, limit: int = 0) -> PromptPool:
        rows = load_split(folder, split)
        if not rows:
            raise UserError(str(folder), f"the {split} split has no rows")
        return cls(rows[: limit or None], load_task(folder), tokenizer)

    def __len__(self) -> int:
        return len(self.rows)

    def contexts(self, picks: Sequence[int], corpus: bool = False) -> list[list[int]]:
        """Prompt token ids of some rows; with `corpus`, of the prompts as pretraining shows them (tasks/rows.py)."""
        rows = [self.rows[i] for i in picks]
        texts = [row.get("corpus_prompt", row["prompt"]) if corpus else row["prompt"] for row in rows]
        return [self.task.prompt_ids(self.tokenizer, text) for text in texts]

    def hinted(self, index: int, right: Sequence[str] = (), wrong: Sequence[str] = (), note: str = "") -> list[int]:
        """Token ids of a row's prompt with attempts shown; the plain prompt where there are none (tasks/attempts.py)."""
        text = self.task.hints.hinted_prompt(self.rows[index]["prompt"], right, wrong, note)
        return self.task.prompt_ids(self.tokenizer, text)

    def pick(self, seed: int, step: int, count: int, purpose: str = "prompts") -> list[int]:
        """The prompts of a step: shuffled epochs, a function of seed and step alone."""
        return epoch_order(len(self.rows), (step - 1) * count, count, seed, purpose)

    def texts(self, trajectory: Trajectory) -> list[str]:
        ended = [False] * len(trajectory) if trajectory.ended_B is None else trajectory.ended_B.tolist()
        return [completion_text(self.tokenizer, a.tolist(), e) for a, e in zip(trajectory.actions, ended, strict=True)]

    def rewards(self, trajectory: Trajectory) -> list[float]:
        """The verifier's 0 or 1 for every row."""
        mine = trajectory.rows(ranks.share(len(trajectory)))  # a verifier may be slow, and judge by the time it takes
        answers = [self.rows[int(i)]["answer"] for i in mine.prompt_B]
        return ranks.collect(rewards(self.task.verifier, self.texts(mine), answers))


def sample_seeds(picks: list[int], n: int, *parts: object) -> tuple[list[int], list[int]]:
    """(prompt of each row, seed of each row) for n samples of every prompt: one seed per (parts, prompt, sample)."""
    prompts = [p for p in picks for _ in range(n)]
    return prompts, [derive(*parts, j // n, p, j % n) for j, p in enumerate(prompts)]
