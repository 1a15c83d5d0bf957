"""What the objective says of single tokens: a few rows of a few steps, kept so that a reader sees which tokens a method teaches.

It looks and changes nothing. Each of its steps is one file of the work directory, written before the step's checkpoint: a resumed run has
it, or makes the step again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.hidden import HiddenStates
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.chunk import Term, prefix
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Stream
from opd_steps.process import ranks
from opd_steps.store.files import write_jsonl

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROWS, TOKENS, PROMPT = 6, 200, 2000  # rows of a step, each of another prompt; tokens of a row; last characters of its prompt
DIGITS = 4
FILE = "tokens.jsonl"


class Eye:
    """Looks at a batch chunk by chunk, and keeps the figures of the decisions that are to be shown: the first ones of the rows `picks`."""

    def __init__(self, rows: Trajectory, picks: list[int]):
        self.rows, self.picks = rows, picks
        ends = rows.length_B.cumsum(0).tolist()
        self.spans = {b: range(ends[b] - len(rows.actions[b]), ends[b])[:TOKENS] for b in picks}
        self.wanted = {point for span in self.spans.values() for point in span}
        self.found: dict[str, dict[int, float]] = defaultdict(dict)

    def look(
        self, points: Sequence[int], streams: Sequence[Stream], terms: Sequence[Term], q: StepDist, evidence: Evidence
    ) -> None:
        """At a chunk as its loss sees it; `points`: where its decisions are in the batch."""
        here = [i for i, point in enumerate(points) if point in self.wanted]
        if here:
            for name, value_N in said(streams, terms, q, evidence).items():
                self.found[name].update((points[i], value) for i, value in zip(here, value_N[here].tolist(), strict=True))


@torch.no_grad()
def said(streams: Sequence[Stream], terms: Sequence[Term], q: StepDist, evidence: Evidence) -> dict[str, Tensor]:
    """Columns over decision points, [N] each; names of further terms begin with their prefix.

    The estimator's own figures (log_ratio, advantage, divergence ...), and weight: what the decision counts in the loss, 1 where all
    count alike, 0 where it is masked; of the method's own term also student: its log-prob of the action, and both entropies; in nats.
    """
    columns: dict[str, Tensor | None] = {}
    if (raw_N := evidence.sampler_logp_N) is not None:
        evidence = replace(evidence, sampler_logp_N=raw_N.where(~raw_N.isnan(), 0.0))
    for k, (stream, term) in enumerate(zip(streams, terms, strict=True)):
        seen = replace(stream.view(evidence), shift_N=term.shift_N)
        columns |= {prefix(k) + name: value_N for name, value_N in stream.loss(q, seen)[1].items()}
        columns[f"{prefix(k)}weight"] = term.scale_N * term.tokens * stream.factor_N(q, seen)
        if k == 0 and not isinstance(q, HiddenStates):
            teacher_N = None if seen.teacher is None else seen.teacher.entropy()
            columns |= {"student": q.logp(seen.action_N), "entropy": q.entropy(), "teacher_entropy": teacher_N}
    return {name: value_N for name, value_N in columns.items() if value_N is not None}


class TokenLog:
    """Keeps the first, the middle and the last of `steps` steps."""

    def __init__(self, work: Path, steps: int, tokenizer: PreTrainedTokenizerBase):
        self.folder, self.steps, self.tokenizer = work / "tokens", {1, (steps + 1) // 2, steps}, tokenizer

    def eye(self, step: int, rows: Trajectory) -> Eye | None:
        """An eye on the first row of each of the first prompts; None at the steps between."""
        if step not in self.steps:
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
