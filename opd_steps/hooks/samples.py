from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from opd_steps.hooks import HookPlug, Setting
from opd_steps.hooks._asked import answers
from opd_steps.nouns.hook import Hook
from opd_steps.process import ranks

FILE = "samples.jsonl"
_SHOWN = 200  # characters in the log


@dataclass(frozen=True)
class Samples(HookPlug):
    """Every `every` steps, and after the last, answers to a few prompts, with the same seeds each time: into samples.jsonl, a row an
    answer with step, id, text and reward; the first one into the log.
    """

    PROMPTS: ClassVar[bool] = True
    SAMPLES: ClassVar[bool] = True
    OF_DATA: ClassVar[tuple[str, ...]] = ("tasks/worlds", "tasks/verifiers")

    every: Annotated[int, "at least 1"] = 50  # steps
    split: Literal["train", "test", "ood"] = "train"
    prompts: Annotated[int, "at least 1"] = 4  # the first of the split
    temperature: Annotated[float, "at least 0"] = 1.0
    max_new_tokens: Annotated[int, "at least 0"] = 0  # of an answer; 0 = as the node samples

    def make(self, setting: Setting) -> _Scribe:
        return _Scribe(self, setting)


class _Scribe(Hook):
    def __init__(self, options: Samples, setting: Setting):
        self.options, self.setting = options, setting
        self.pool, self.file = setting.held(options.split, options.prompts), setting.work / FILE

    def __call__(self, step: int, policy, metrics: dict[str, float]) -> None:
        o = self.options
        if step % o.every and step != self.setting.steps:
            return
        rows = answers(policy, self.pool, 1, o.temperature, o.max_new_tokens, step, self.setting.seed, "samples", o.split)
        rewards = [None] * len(rows) if rows.reward_B is None else rows.reward_B.tolist()
        shown = zip(rows.prompt_B.tolist(), self.pool.show(rows), rewards, strict=True)
        found = [{"step": step, "id": self.pool.name(i), "text": text, "reward": reward} for i, text, reward in shown]
        if ranks.first():
            _write(self.file, step, found)
            print(f"step {step}: {found[0]['id']}: {found[0]['text'][:_SHOWN]!r}", flush=True)


def _write(file: Path, step: int, rows: list[dict]) -> None:
    """Behind the rows of earlier steps; those that a killed run has written of later ones, or in part, are dropped."""
    old = file.read_text().splitlines(keepends=True) if file.exists() else []
    kept = [line for line in old if line.endswith("\n") and json.loads(line)["step"] < step]
    aside = file.with_suffix(".tmp")
    aside.write_text("".join([*kept, *(json.dumps(row) + "\n" for row in rows)]))
    aside.replace(file)
