"""Prints the table of a paper's models for docs/results.md: `python -m tests.results_table results quickstart`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from opd_steps.findings.results import Plan, produces
from opd_steps.findings.stats import half_width

COLUMNS = {
    "greedy": "test/accuracy",
    "Avg@k": "test/avg_at_k",
    "Pass@k": "test/pass_at_k",
    "reverse KL to the teacher": "own/reverse_kl",
    "entropy": "own/entropy",
}
BY_SEED = "test/avg_at_k"


def table(plan: Plan, paper: str) -> list[str]:
    """A row for each model that the paper evaluates, means over seeds with half of the 95 % interval, and CPU seconds of its training."""
    lines = [f"| model | {' | '.join(COLUMNS)} | CPU s | Avg@k by seed |", "|---" * (len(COLUMNS) + 3) + "|"]
    nodes = plan.nodes(paper)
    models = {f"{n['owner']}/{n['kind']}/{n['name']}": n for n in nodes}
    evaluations = {n["parents"]["model"]: n for n in nodes if produces(n["kind"]) == "evaluation"}
    for key, node in sorted(evaluations.items(), key=lambda item: list(models).index(item[0].partition(":")[0])):
        runs = plan.seeds(node).values()
        cells = [_cell([run.manifest["metrics"].get(metric) for run in runs]) for metric in COLUMNS.values()]
        cost = [run.timing.get("cpu_s") for run in plan.seeds(models[key.partition(":")[0]]).values()]
        each = " ".join(f"{run.manifest['metrics'][BY_SEED]:.3f}".removeprefix("0") for run in runs)
        lines.append(f"| {key.split('/')[2]} | {' | '.join(cells)} | {fmean(cost):.1f} | {each} |")
    return lines


def _cell(values: Sequence[float | None]) -> str:
    if not values or None in values:
        return "–"
    half = half_width(list(values))
    return f"{fmean(values):.3f}" + (f" ± {half:.3f}" if half is not None else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("paper")
    args = parser.parse_args()
    print("\n".join(table(Plan.read(args.results / "report/plan.json", args.results), args.paper)))


if __name__ == "__main__":
    main()
