"""Figures prompt by prompt, from the rows of samples/<split>.jsonl: what a metric is the mean of (Suite.PROMPTS)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean


def values_by_id(rows: Iterable[Mapping], value: str, facts: Mapping) -> dict[str, float]:
    """`value`, an expression over a row's columns and the facts, at every prompt by the row's `id`; rows with one id are averaged. {} where
    a row has none."""
    at_prompt, known = compile(value, "PROMPTS", "eval"), {**facts, "__builtins__": {}}
    found: dict[str, list] = {}
    for row in rows:
        found.setdefault(row["id"], []).append(eval(at_prompt, known, dict(row)))
    if any(each is None for values in found.values() for each in values):
        return {}
    return {name: float(values[0]) if len(values) == 1 else fmean(values) for name, values in found.items()}
