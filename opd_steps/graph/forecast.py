"""What a run will cost, told before it starts: jobs by kind, and their CPU time if they take what earlier ones of their kind took."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

LOOKED_AT = 40  # results of a kind
WORTH_SAYING = 2  # jobs


def forecast(results: Path, jobs: list[tuple[GraphNode, int]], missing: set[str]) -> str:
    """One line for the jobs whose results are `missing` (folders below results/), "" for hardly any.

    A kind's CPU seconds are the median of the results of that kind that are there, of any paper; where one has none, that is said.
    """
    due = Counter(node.kind for node, seed in jobs if node.path(seed) in missing)
    if due.total() < WORTH_SAYING:
        return ""
    parts, total, unknown = [], 0.0, []
    for kind, count in due.items():
        files = islice(results.glob(f"*/{kind}/*/seed*.timing.json"), LOOKED_AT)
        known = [seconds for file in files for seconds in _cpu_s(file)]
        total += count * median(known) if known else 0.0
        unknown += [] if known else [kind]
        parts.append(f"{count} {kind}" + (f" at {median(known):.3g} s" if known else ""))
    said = f"about {total / 60:.1f} CPU min by earlier ones" if total else "none of a kind that ran before"
    said += f", besides {', '.join(unknown)}" if total and unknown else ""
    return f"{due.total()} nodes to be made: {', '.join(parts)}; {said}"


def _cpu_s(file: Path) -> list[float]:
    try:
        return [float(json.loads(file.read_text())["cpu_s"])]
    except (OSError, ValueError, KeyError, TypeError):
        return []
