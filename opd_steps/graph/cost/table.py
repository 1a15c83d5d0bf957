"""What a run will need, before it starts: a line a node, of memory and time."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from opd_steps.graph.checks.processes import processes
from opd_steps.graph.cost.memory import fit
from opd_steps.graph.cost.rows import PROMPT, SHOWN, TEXT
from opd_steps.graph.cost.seconds import ASSUMED
from opd_steps.graph.cost.tower import SEEN
from opd_steps.store.artifacts import MANIFEST
from opd_steps.store.fingerprint import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opd_steps.graph.node import GraphNode

WIDEST = 60  # columns
HEAD = (
    "estimates, not measurements (docs/plan.md); memory is of each card, or of the host where a node has none",
    f"rows: prompts of {PROMPT} tokens, {TEXT} of a text, {SHOWN} that a teacher is shown beside, {SEEN:,} of pictures that no family bounds; "
    "answers as long as they may be",
    ASSUMED,
)


def table(results: Path, nodes: Iterable[GraphNode]) -> str:
    """A line for all nodes of a kind and paper that need the same: the cards that they ask for, time, memory at its most and of what.

    Time is that of earlier results of the nodes, where there are any of the same configs: another scale's are not.
    """
    same = _by_configs(results)
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for node in nodes:
        found = fit(node)
        if found is None:
            continue
        guess = None if isinstance(found, str) else found.seconds
        said = f"no estimate: {found}" if isinstance(found, str) else str(found)
        time = _time(_measured(results, node, same), guess)
        alike[node.paper, node.kind, _cards(node), time, said].append(node.name)
    rows = [(f"{paper}/{kind}/{', '.join(names)}", *rest) for (paper, kind, *rest), names in alike.items()]
    widths = [min(WIDEST, max((len(row[i]) for row in rows), default=0)) for i in range(3)]
    lines = ["  ".join([*(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows]
    return "\n".join([*HEAD, "", *lines])


def _cards(node: GraphNode) -> str:
    asked = node.options["resources"]
    if not asked["gpu"]:
        return "host"
    more = f", {count} processes" if (count := processes(node)) > 1 else ""
    return f"{asked['gpu']} x {asked['gpu_mem_gb']} GB{more}"


def _measured(results: Path, node: GraphNode, same: Callable[[GraphNode, int], bool]) -> float | None:
    """Median of the wall seconds that the node took with other seeds, or before."""
    known = []
    for file in (results / node.paper / node.kind / node.name).glob("seed*.timing.json"):
        try:
            seed = int(file.name.removeprefix("seed").partition(".")[0])
            if same(node, seed):
                known.append(float(json.loads(file.read_text())["wall_s"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return median(known) if known else None


def _by_configs(results: Path) -> Callable[[GraphNode, int], bool]:
    """Whether a result was made by the configs of today, its own and those of all that it is made from: whatever the code was."""

    @cache
    def same(node: GraphNode, seed: int) -> bool:
        try:
            made_by = json.loads((results / node.path(seed) / MANIFEST).read_text())["config"]
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return canonical(made_by) == node.job_config(node.seed(seed)) and all(same(p, seed) for p in node.parents.values())

    return same


def _time(measured: float | None, guess: float | None) -> str:
    if measured is not None:
        return f"{_spoken(measured)} before"
    return "time unknown" if guess is None else f"about {_spoken(guess)}"


def _spoken(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.2g} min" if seconds < 3600 else f"{seconds / 3600:.2g} h"
