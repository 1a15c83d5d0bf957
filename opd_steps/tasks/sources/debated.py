"""A source whose corpus shows debates in front of prompts, so that a model learns to take from them what is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from opd_steps.config.plugs import plug
from opd_steps.errors import UserError
from opd_steps.seeds import rng
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class Debated(Source):
    """Rows of the source `of`; a `share` of its train rows shows in pretraining a made-up debate of 1 to `rounds` rounds between experts,
    one for each value of the column `domain`, in their order. Who is right says one right answer, which stands behind the debate as
    well; the domain's own expert says something wrong with probability `slip`, each of the others with probability `wrong`: half of
    the time that answer with an error, else an answer to another question of the domain.

    knows: rows of another domain than this are always shown a debate: who learns from these knows that domain alone, and must take from
    others what they say of the rest; "" = all. begun: probability that the answer has begun: its first part stands behind the prompt,
    and all replies go on from there.
    """

    of: Any = plug("tasks/sources")
    show: Any = plug("tasks/transcripts", "marks")
    share: Annotated[float, "0 to 1"] = 0.5
    rounds: Annotated[int, "at least 1"] = 2
    slip: Annotated[float, "0 to 1"] = 0.1
    wrong: Annotated[float, "0 to 1"] = 0.7
    knows: str = ""
    begun: Annotated[float, "0 to 1"] = 0.0

    def rows(self, seed: int) -> dict[str, list[dict]]:
        """Rows of `of`, those that show a debate with it in `corpus_prompt` and with their own `corpus`."""
        found, draw = self.of.rows(seed), rng(seed, "debated")
        train = found["train"]
        domains = sorted({str(row["meta"].get("domain")) for row in train})
        if len(domains) < 2 or (self.knows and self.knows not in domains):
            raise UserError(
                "debated", f"an expert for each domain: expected a source with two of them or more, found {domains}"
            )
        always = lambda row: self.knows and row["meta"]["domain"] != self.knows
        lesson = lambda row: self._shown(row, [r for r in train if r["meta"]["domain"] == row["meta"]["domain"]], domains, draw)
        return found | {"train": [lesson(row) if always(row) or draw.random() < self.share else row for row in train]}

    def _shown(self, row: dict, alike: list[dict], domains: list[str], draw: np.random.Generator) -> dict:
        """`alike`: the rows of its domain."""
        own, parts, answer = domains.index(row["meta"]["domain"]), [], self.of.right_attempt(row, draw)
        at = int(draw.integers(1, len(answer))) if len(answer) > 1 and draw.random() < self.begun else 0
        for r in range(1 + int(draw.integers(self.rounds))):
            for k in range(len(domains)):
                fails = draw.random() < (self.slip if k == own else self.wrong)
                parts.append((k, r, self._wrong(row, answer, alike, draw)[at:] if fails else answer[at:]))
        return row | {"corpus_prompt": self.show.shows(row["prompt"], parts, own) + answer[:at], "corpus": answer[at:]}

    def _wrong(self, row: dict, answer: str, alike: list[dict], draw: np.random.Generator) -> str:
        other = alike[int(draw.integers(len(alike)))]
        if draw.random() < 0.5 or other is row:
            return self.of.wrong_attempt(row | {"solution": answer}, [r["answer"] for r in (row, other)], draw)
        return other["solution"]
