"""The table of analyses: a row per figure of each analyze node, its mean over seeds with the 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass

from opd_steps.findings.results import Plan, produces
from opd_steps.report.comparison import Cell, measured


@dataclass
class Figure:
    metric: str
    cell: Cell


@dataclass
class Analysis:
    name: str
    analysis: str
    roles: dict[str, str]  # role -> name of the node
    owner: str  # "" where it is the paper's own
    seeds: int
    href: str
    figures: list[Figure]


def analyses(plan: Plan, paper: str) -> list[Analysis]:
    """What the paper's analyze nodes measured, in the order of the paper."""
    found = []
    for node in plan.nodes(paper):
        if produces(node["kind"]) == "analysis":
            runs = plan.seeds(node)
            metrics = sorted({name for run in runs.values() for name in run.manifest["metrics"]})
            roles = {role: key.rsplit("/", 1)[-1] for role, key in node["parents"].items()}
            owner = node["owner"] if node["owner"] != paper else ""
            figures = [Figure(metric, measured(node["name"], metric, runs)) for metric in metrics]
            href = f"#{paper}-{node['kind']}-{node['name']}"
            of = node["options"].get("analysis", {"name": node["kind"]})["name"]
            found.append(Analysis(node["name"], of, roles, owner, len(runs), href, figures))
    return found
