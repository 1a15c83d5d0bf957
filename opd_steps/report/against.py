"""Charts of the evaluated models against each other: Pass@k by k, accuracy by entropy, accuracy by what it cost."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from opd_steps.findings.results import Plan, Result
from opd_steps.report.axes import LARGE
from opd_steps.report.comparison import Row, directions, evaluations
from opd_steps.report.curves import chart, series
from opd_steps.report.scatter import Point, scatter

PASS_AT_K, ENTROPY = "tables/passk.json", "own/entropy"


@dataclass(frozen=True)
class Chart:
    name: str  # its caption's
    says: str
    svg: Markup


def charts(plan: Plan, paper: str, rows: list[Row], metrics: list[str], order: dict[str, int], captions: dict) -> list[Chart]:
    """Those for which there are figures. `order`: number of each model's line, the same in all charts."""
    found = [_pass_at_k(plan, paper, split, order) for split in _splits(plan, paper)]
    better, labels = directions(plan, paper), captions["metrics"]
    score = next((metric for metric in metrics if better.get(metric) == "up"), None)
    if score:
        up = labels.get(score, score)
        entropy = lambda row: row.cells[metrics.index(ENTROPY)].mean if ENTROPY in metrics else None
        for name, x, of, front in (
            ("entropy", "entropy, nats per token", entropy, False),
            ("seconds", "training, CPU seconds", lambda row: row.cost.mean, True),
            ("tokens", "trained on, tokens", lambda row: row.tokens, True),
        ):
            points = _points(rows, order, metrics.index(score), of)
            found.append(Chart(name, "", Markup(scatter(points, x, up, front))))
    return [each for each in found if each.svg]


def _points(rows: list[Row], order: dict[str, int], at: int, of: Callable[[Row], float | None]) -> list[Point]:
    found = [(row, of(row), row.cells[at]) for row in rows]
    return [
        Point(row.name, x, cell.mean, cell.half, order[row.name], row.is_variant)
        for row, x, cell in found
        if x is not None and cell.mean is not None
    ]


def _splits(plan: Plan, paper: str) -> list[str]:
    tables = (_table(run) for _, runs in evaluations(plan, paper) for run in runs.values())
    return list(dict.fromkeys(split for table in tables for split in sorted(table, reverse=True)))


def _pass_at_k(plan: Plan, paper: str, split: str, order: dict[str, int]) -> Chart:
    lines, ks = {}, set()
    for _, runs in evaluations(plan, paper):
        tables = [_table(run).get(split, {}) for run in runs.values()]
        ks |= {int(k) for table in tables for k in table}
        by_seed = [[{"step": math.log2(int(k)), split: value} for k, value in table.items()] for table in tables]
        name = next(iter(runs.values())).variant
        if line := series(name, split, by_seed):
            lines[order[name]] = line
    at = [(math.log2(k), str(k)) for k in sorted(ks)]
    svg = chart(lines, f"Pass@k on {split}", "share of prompts", "k", at, LARGE)
    return Chart("passk", split, Markup(svg))


def _table(run: Result) -> dict[str, dict[str, float]]:
    """split -> k -> Pass@k; {} where the evaluation drew no samples."""
    return json.loads((run.folder / PASS_AT_K).read_text()) if PASS_AT_K in run.manifest["files"] else {}
