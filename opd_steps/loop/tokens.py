"""What the objective says of single tokens: a few rows of a few steps, kept so that a reader sees which tokens a method teaches.

It looks and changes nothing. Each of its steps is one file of the work directory, written before the step's checkpoint: a resumed run has
it, or makes the step again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks
from opd_steps.store.files import write_jsonl

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROWS, TOKENS, PROMPT = 6, 200, 2000  # rows of a step, each of another prompt; tokens of a row; last characters of its prompt
DIGITS = 4
FILE = "tokens.jsonl"


class Eye:
    """Sees columns [N] of a batch chunk by chunk, and keeps the figures at the decisions that are to be shown."""

    def __init__(self, rows: Trajectory, picks: list[int]):
        self.rows, self.picks = rows, picks
        ends = rows.length_B.cumsum(0).tolist()
        self.spans = {b: range(ends[b] - len(rows.actions[b]), ends[b])[:TOKENS] for b in picks}
        self.wanted_N = torch.zeros(len(rows.action_N), dtype=torch.bool)
        for span in self.spans.values():
            self.wanted_N[span.start : span.stop] = True
        self.found: dict[str, dict[int, float]] = defaultdict(dict)

    def looks(self, point_N: Tensor) -> bool:
        """Whether any of these decisions, numbers in the batch, is to be shown."""
        return bool(self.wanted_N[point_N].any())

    def see(self, point_N: Tensor, columns: Mapping[str, Tensor | None]) -> None:
        """Columns of these decisions."""
        picks_N = self.wanted_N[point_N]
        for name, value_N in columns.items():
            if value_N is not None:
                values = value_N.detach().cpu()[picks_N].tolist()
                self.found[name].update(zip(point_N[picks_N].tolist(), values, strict=True))


class TokenLog:
    """Keeps the first, the middle and the last of `steps` steps."""

    def __init__(self, work: Path, steps: int, tokenizer: PreTrainedTokenizerBase):
        self.folder, self.steps, self.tokenizer = work / "tokens", {1, (steps + 1) // 2, steps}, tokenizer

    def eye(self, step: int, rows: Trajectory) -> Eye | None:
        """An eye on the first row of each of the first prompts; None at the steps between, and where rows are none or not of tokens."""
        if step not in self.steps or not len(rows) or not isinstance(rows.contexts[0], Sequence):
            return None
        first = {prompt: b for b, prompt in reversed(list(enumerate(rows.prompt_B.tolist())))}
        return Eye(rows, sorted(first.values())[:ROWS])

    def keep(self, step: int, eye: Eye) -> None:
        """Write what was seen, each rank's part of it, as {step, prompt, reward, length, tokens, heard, columns}."""
        found: dict[str, dict[int, float]] = defaultdict(dict)
        for part in ranks.gather(dict(eye.found)):
            for name, values in part.items():
                found[name].update(values)
        if ranks.first():
            write_jsonl(self.folder / f"{step:08d}.jsonl", [{"step": step} | self._row(eye, b, found) for b in eye.picks])

    def publish(self, stage: Path) -> None:
        """All steps as one file."""
        (stage / FILE).write_text("".join(file.read_text() for file in sorted(self.folder.glob("*.jsonl"))))

    def _row(self, eye: Eye, b: int, found: Mapping[str, Mapping[int, float]]) -> dict:
        rows, span = eye.rows, eye.spans[b]
        heard = rows.heard[b].tolist() if rows.heard else []
        reward = None if rows.reward_B is None else _short(float(rows.reward_B[b]))
        columns = {name: [_short(values.get(i)) for i in span] for name, values in found.items()}
        return {
            "prompt": self.tokenizer.decode(list(rows.contexts[b]))[-PROMPT:],
            "reward": reward,
            "length": len(rows.actions[b]),
            "tokens": self._pieces(rows.actions[b][: len(span)].tolist()),
            "heard": [[at, text] for (at, _), text in zip(heard, self._pieces([i for _, i in heard]), strict=True)],
            "columns": {name: values for name, values in columns.items() if any(value is not None for value in values)},
        }

    def _pieces(self, ids: list[int]) -> list[str]:
        """The text of each token, behind another one: some tokenizers drop the space in front of a text's first."""
        if not ids:
            return []
        anchor = len(self.tokenizer.decode(ids[:1]))
        return [self.tokenizer.decode([ids[0], each])[anchor:] for each in ids]


def _short(value: float | None) -> float | None:
    return float(f"{value:.{DIGITS}g}") if value is not None and math.isfinite(value) else None
