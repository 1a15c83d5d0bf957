"""The table of evaluated models: a cell is the mean over seeds with its 95 % interval, and says where it comes from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

from opd_steps.findings.results import Plan, Result, produces
from opd_steps.findings.stats import half_width
from opd_steps.findings.variants import differences
from opd_steps.graph.kinds import KINDS
from opd_steps.report.axes import number


@dataclass
class Cell:
    text: str = "–"
    spread: str = ""  # "± 0.012", the 95 % interval's half width; with one seed the standard error over prompts
    tooltip: str = ""
    mean: float | None = None
    half: float | None = None  # of the 95 % interval
    best: bool = False


@dataclass
class Row:
    name: str  # Result.variant: the evaluation's, which is its model's where the paper gives it none
    model: str  # the node's that was evaluated
    kind: str
    owner: str
    seeds: int
    differs: list[str]
    cells: list[Cell]
    cost: Cell
    tokens: float | None  # that it was trained on
    href: str

    @property
    def node(self) -> str:
        """The name without that of a part."""
        return self.name.partition(":")[0]

    @property
    def is_variant(self) -> bool:
        return KINDS[self.kind].VARIANTS


def metric_names(plan: Plan, paper: str, order: list[str]) -> list[str]:
    """Columns: every metric that an evaluation of the paper measured, those of `order` first, standard errors left out."""
    found = {m for _, runs in evaluations(plan, paper) for run in runs.values() for m in run.manifest["metrics"]}
    found = {name for name in found if not name.endswith("_stderr")}
    rank = {name: i for i, name in enumerate(order)}
    return sorted(found, key=lambda name: (rank.get(name, len(order) - name.startswith("own/") * 0.5), name))


def rows(plan: Plan, paper: str, metrics: list[str]) -> list[Row]:
    """A row per evaluation. Bold goes to the best mean among the variants of a method, where there are several."""
    nodes = plan.nodes(paper)
    variants = {node["name"]: node["options"] for node in nodes if KINDS[node["kind"]].VARIANTS}
    differs = differences(variants) if variants else {}
    table = []
    for node, runs in evaluations(plan, paper):
        owner, kind, name = node["parents"]["model"].partition(":")[0].split("/")
        shown = next(iter(runs.values())).variant
        model = next((n for n in nodes if (n["owner"], n["kind"], n["name"]) == (owner, kind, name)), None)
        cells = [measured(shown, metric, runs) for metric in metrics]
        shared = owner if owner != paper else ""
        trained = plan.seeds(model) if model else {}
        cost, href = (_cost(trained), _tokens(trained)), f"#{paper}-{kind}-{name}"
        table.append(Row(shown, name, kind, shared, len(runs), differs.get(name, []), cells, *cost, href))
    better = directions(plan, paper)
    for i, metric in enumerate(metrics):
        _mark_best(better.get(metric, ""), [row.cells[i] for row in table if row.is_variant])
    return table


@dataclass
class Sweep:
    """A family of variants: the options that its grid moves, and its models' rows with their values of these."""

    family: str
    options: list[str]
    rows: list[tuple[list[str], Row]]


def sweeps(plan: Plan, paper: str, table: list[Row]) -> list[Sweep]:
    """The families of the evaluated models, in the order of the table."""
    points = {node["name"]: node for node in plan.nodes(paper) if node["family"] and produces(node["kind"]) == "model"}
    found: dict[str, Sweep] = {}
    for row in table:
        if node := points.get(row.model):
            sweep = found.setdefault(node["family"], Sweep(node["family"], list(node["point"]), []))
            sweep.rows.append(([str(value) for value in node["point"].values()], row))
    return list(found.values())


def evaluations(plan: Plan, paper: str) -> list[tuple[dict, dict[int, Result]]]:
    """The paper's evaluations with their results by seed, in the order of their models."""
    models = [f"{n['owner']}/{n['kind']}/{n['name']}" for n in plan.nodes(paper)]
    found = [node for node in plan.nodes(paper) if produces(node["kind"]) == "evaluation"]
    return [
        (node, plan.seeds(node)) for node in sorted(found, key=lambda n: models.index(n["parents"]["model"].partition(":")[0]))
    ]


def directions(plan: Plan, paper: str) -> dict[str, str]:
    """Metric -> up, down or "": as the plan has it, and as runs found it of benchmarks."""
    found: dict[str, str] = {}
    for node, runs in evaluations(plan, paper):
        for run in runs.values():
            found |= run.manifest["facts"].get("directions", {})
        found |= node["directions"]
    return found


def measured(name: str, metric: str, runs: dict[int, Result]) -> Cell:
    """One figure of one node over its seeds."""
    values = {seed: run.manifest["metrics"][metric] for seed, run in runs.items() if metric in run.manifest["metrics"]}
    if not values:
        return Cell(tooltip=f"{name} has no {metric}")
    lines = [f"{name}, {metric}"]
    for seed, value in values.items():
        manifest = runs[seed].manifest
        where = f"{runs[seed].path}, fingerprint {manifest['fingerprint'][:12]}, commit {short(manifest['git_commit'])}"
        lines.append(f"seed {seed}: {number(value)}  ({where})")
    if not all(map(math.isfinite, values.values())):
        return Cell("not finite", "", "\n".join(lines))
    mean, half = fmean(values.values()), half_width(list(values.values()))
    digits = 3 if abs(mean) < 10 else 1
    spread = f"± {half:.{digits}f}" if half is not None else ""
    if len(values) == 1:
        error = next(iter(runs.values())).manifest["metrics"].get(f"{metric}_stderr")
        spread = f"± {error:.{digits}f} s.e." if error is not None else ""
    if lacking := [seed for seed in runs if seed not in values]:
        lines += [f"seed {seed}: not defined  ({runs[seed].path})" for seed in lacking]
        spread = f"{spread} ({len(values)} of {len(runs)} seeds)".strip()
    return Cell(f"{mean:.{digits}f}", spread, "\n".join(lines), mean, half)


def _cost(runs: dict[int, Result]) -> Cell:
    seconds = {seed: run.timing["cpu_s"] for seed, run in runs.items() if "cpu_s" in run.timing}
    if not seconds:
        return Cell()
    mean = fmean(seconds.values())
    lines = [f"seed {s}: {runs[s].timing['cpu_s']:.1f} s CPU, {runs[s].timing['wall_s']:.1f} s wall" for s in seconds]
    return Cell(duration(mean), "", "\n".join(lines), mean)


def _tokens(runs: dict[int, Result]) -> float | None:
    """Mean over seeds of the tokens of all steps."""
    seen = [sum(row.get("train/tokens", 0.0) for row in run.curves) for run in runs.values()]
    return fmean(seen) if any(seen) else None


def _mark_best(better: str, cells: list[Cell]) -> None:
    means = [cell.mean for cell in cells if cell.mean is not None]
    if not better or len(means) < 2 or len(set(means)) == 1:
        return
    best = {"up": max, "down": min}[better](means)
    for cell in cells:
        cell.best = cell.mean == best


def duration(seconds: float) -> str:
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def short(commit: str) -> str:
    """A commit for people: ten digits, and "+" where the checkout had changes."""
    return commit[:10] + "+" * commit.endswith("+") if commit else "none"
