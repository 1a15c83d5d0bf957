"""A source whose corpus shows attempts and feedback, and asks for feedback, so that a model learns to use and to give it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from opd_steps.config.plugs import plug
from opd_steps.seeds import rng
from opd_steps.tasks.sources import Source


@dataclass(frozen=True)
class Tutored(Source):
    """Rows of the source `of`, its train rows `times` over. Of these, pretraining shows a share `demo` with a right attempt in front of
    the prompt, behind which stands that attempt again; `note` with feedback, and behind it the right attempt that it is about; `both`
    with either, and again the latter; a share `asked` as a tutor is asked: a right attempt and another's try (right or wrong), behind
    which stands the feedback; the others plainly, with a right attempt.

    A feedback is a right attempt from the first concept of the prompt (a match of `concept`) in it on: the way from a way point, which
    is half an answer, and of use to who comes there by himself. `hints` and `ask` say how all this is written: plugs as those of the
    data node and of the judge `tutor`.
    """

    CHECKS: ClassVar[tuple[str, ...]] = ("demo + note + both + asked <= 1",)

    of: Any = plug("tasks/sources")
    hints: Any = plug("tasks/hints", "marks")
    ask: Any = plug("tasks/hints", "marks")
    concept: str = r">(\w)"
    times: Annotated[int, "at least 1"] = 1  # each anew
    demo: Annotated[float, "0 to 1"] = 0.1
    note: Annotated[float, "0 to 1"] = 0.3
    both: Annotated[float, "0 to 1"] = 0.1
    asked: Annotated[float, "0 to 1"] = 0.25

    def rows(self, seed: int) -> dict[str, list[dict]]:
        found = self.of.rows(seed)
        train, draw = found["train"], rng(seed, "tutored")
        answers = sorted({row["answer"] for row in train})
        return found | {"train": [self._shown(row, answers, draw) for _ in range(self.times) for row in train]}

    def feedback(self, prompt: str, attempt: str) -> str:
        _, concept, rest = attempt.partition(re.findall(self.concept, prompt)[0])
        return concept + rest

    def _shown(self, row: dict, answers: list[str], draw: np.random.Generator) -> dict:
        kind = np.searchsorted(np.cumsum([self.demo, self.note, self.both, self.asked]), draw.random(), side="right")
        right, prompt = self.of.right_attempt(row, draw), row["prompt"]
        if kind == 4:
            return row | {"corpus": right}
        if kind == 3:
            tried = self.of.wrong_attempt(row, answers, draw) if draw.random() < 0.5 else self.of.right_attempt(row, draw)
            asked = self.ask.hinted_prompt(prompt, right=[right], wrong=[tried])
            return row | {"corpus_prompt": asked, "corpus": self.feedback(prompt, right)}
        other = right if kind == 0 else self.of.right_attempt(row, draw)
        note = "" if kind == 0 else self.feedback(prompt, other)
        shown = self.hints.hinted_prompt(prompt, right=[] if kind == 1 else [right], wrong=[], note=note)
        return row | {"corpus_prompt": shown, "corpus": other}
