"""What a suite measured, told apart by a column of the data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from opd_steps.nouns.task import Pool
from opd_steps.store.by_prompt import values_by_id
from opd_steps.store.jsonl import read_jsonl


def by_value(
    stage: Path,
    pools: Mapping[str, Pool],
    column: str,
    prompts: Mapping[str, str],
    measured: Mapping[str, float],
    facts: Mapping,
) -> dict[str, float]:
    """`<split>/<name>/<value>`: the mean over the prompts that have this value in the column, of each figure `measured` that has a value
    at a prompt. `prompts`: PROMPTS of the suite, whose rows lie in `stage`."""
    found: dict[str, float] = {}
    for split, pool in pools.items():
        value_of = {pool.name(i): str(pool.column(column, i)) for i in range(len(pool))}
        rows = read_jsonl(stage / "samples" / f"{split}.jsonl")
        for name, expression in prompts.items():
            if f"{split}/{name}" not in measured:
                continue
            groups: dict[str, list[float]] = {}
            for prompt, value in values_by_id(rows, expression, facts).items():
                groups.setdefault(value_of[prompt], []).append(value)
            found |= {f"{split}/{name}/{value}": fmean(values) for value, values in sorted(groups.items())}
    return found
