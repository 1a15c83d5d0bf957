"""A verifier that may hang, in processes that are ended."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar

from opd_steps.config.plugs import plug
from opd_steps.errors import UserError
from opd_steps.tasks.at_once import at_once, width
from opd_steps.tasks.verifiers import Verifier, _timed
from opd_steps.tasks.verifiers._worker import Pool


@dataclass(frozen=True)
class InTime(Verifier):
    """The score of the verifier `of`, asked in processes of its own, as many at once as there are CPUs; 0 where it takes more than `seconds`
    of CPU time, or `patience` times as many by the clock, as one that waits for something does. Each completion is judged by itself.

    timed_out   measured: the share of samples that were given up; a training's log counts those of each call
    """

    METRICS: ClassVar[dict[str, str]] = {"timed_out": "down"}
    AT_ONCE: ClassVar[bool] = True

    of: Any = plug("tasks/verifiers")
    seconds: Annotated[float, "above 0"] = 5.0
    patience: Annotated[float, "at least 1"] = 20.0

    @property
    def alphabet(self) -> str:
        return self.of.alphabet

    def score(self, completion: str, answer: str) -> float:
        return self.judge([completion], [{"answer": answer}])[0]

    def judge(self, completions: Sequence[str], rows: Sequence[Mapping]) -> list[float]:
        requests = [json.dumps([text, dict(row), self.seconds]) for text, row in zip(completions, rows, strict=True)]
        pool = _pool(os.getpid(), pickle.dumps(self.of), self.patience * self.seconds)
        said = at_once(pool.ask, requests)
        late = [i for i, line in enumerate(said) if not line]
        _late.update((completions[i], rows[i]["answer"]) for i in late)
        if late:
            print(f"verifier: {len(late)} of {len(said)} completions took more than {self.seconds:g} s: 0", flush=True)
        return [self._read(line) for line in said]

    def _read(self, line: str) -> float:
        found = json.loads(line) if line else 0.0
        if isinstance(found, str):
            raise UserError(f"verifier {type(self.of).__name__}", f"it fails on a completion: {found}")
        return found

    def unreadable(self, answer: str) -> str:
        return self.of.unreadable(answer)

    def feedback(self, completion: str, answer: str) -> str:
        return "" if (completion, answer) in _late else self.of.feedback(completion, answer)

    def measure(self, completions: Sequence[str], answers: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
        kept = [part for part in zip(completions, answers, scores, strict=True) if part[:2] not in _late]
        found = self.of.measure(*map(list, zip(*kept, strict=True))) if kept else {}
        return found | {"timed_out": 1 - len(kept) / len(completions)}


_late: set[tuple[str, str]] = set()
"""(completion, answer) that were given up, in this process."""


@cache
def _pool(pid: int, verifier: bytes, wall: float) -> Pool:
    """The workers of a process: a fork starts its own."""
    return Pool(f"from {_timed.__name__} import main; main({verifier!r})", width(), wall)
