"""The picture of the package's rooms in docs/architecture.md, drawn from the imports: `python -m tests.rooms_picture` writes it anew.

An arrow is an import of one room by another, in whatever form; those that a longer way down implies are left out, as are errors, seeds
and config, which everybody may read.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.unit.test_floors import FLOORS, PACKAGE, imports, modules

PAGE = Path(__file__).parents[1] / "docs/architecture.md"
FOR_ALL = {"errors", "seeds", "config"}
WORDS = {
    "steps": "the command behind each rule",
    "loop": "batch, objective, update, checkpoint",
    "prefixes": "whose decisions are trained on",
    "judges": "what else rewards them",
    "hooks": "after every step",
    "gradients": "between backward and update",
    "tune": "all weights, or an adapter",
    "verl": "the same methods on many machines",
    "rollout": "engines, tables",
    "teachers": "views: weights x context x engine",
    "tasks": "worlds, pools, verifiers",
    "models": "families",
    "evaluation": "suites",
    "analyses": "of finished models",
    "findings": "results, claims, verdicts",
    "report": "static pages",
    "tracking": "MLflow",
    "nouns": "Trajectory, StepDist, Policy, Pool ...",
    "objectives": "pure tensor functions",
    "schedules": "controllers",
    "graph": "kinds, nodes, checks, reruns",
    "store": "manifests, fingerprints, locks",
    "process": "ranks, warm start, signals",
    "slurm": "executor, requeue",
}


def arrows() -> set[tuple[str, str]]:
    """(room, room that it imports), without those that a longer way implies."""
    rooms = {
        (name.split(".")[0], other.split(".")[0]) for name in modules(PACKAGE).keys() - {""} for other in imports(name, PACKAGE)
    }
    rooms = {(a, b) for a, b in rooms if a != b and not {a, b} & FOR_ALL}

    def below(start: str, kept: set[tuple[str, str]]) -> set[str]:
        seen, todo = set(), [start]
        while todo:
            here = todo.pop()
            fresh = {b for a, b in kept if a == here} - seen
            seen |= fresh
            todo += fresh
        return seen

    for arrow in sorted(rooms):  # one after the other: of two that imply each other one stays
        if arrow[1] in below(arrow[0], rooms - {arrow}):
            rooms.remove(arrow)
    return rooms


def picture() -> str:
    """Mermaid, a subgraph a floor. Ids end in _, as `graph` is a word of Mermaid's own."""
    lines = ["```mermaid", "flowchart TB"]
    for i, floor in reversed(list(enumerate(FLOORS))):
        lines.append(f'  subgraph floor{i}[" "]')
        lines += [f'    {room}_["{room}<br><small>{WORDS[room]}</small>"]' for room in sorted(floor - FOR_ALL)]
        lines.append("  end")
    lines += [f"  {a}_ --> {b}_" for a, b in sorted(arrows())]
    return "\n".join([*lines, "```"])


def page() -> str:
    """The page with the picture in its place."""
    return re.sub(r"```mermaid\nflowchart TB.*?```", lambda _: picture(), PAGE.read_text(), count=1, flags=re.S)


if __name__ == "__main__":
    PAGE.write_text(page())
