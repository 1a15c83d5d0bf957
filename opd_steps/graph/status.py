"""What is there of a run: results that are current, those that would be made again and why, and those that are missing."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opd_steps.graph.currency import Currency
    from opd_steps.graph.node import GraphNode

STATES = ("current", "stale", "missing")


def status(currency: Currency, jobs: list[tuple[GraphNode, int]]) -> str:
    """A line a paper with the number of its results in each state, then a line for each node that has others than current ones.

    Results made from others that are stale or missing are counted as what they are themselves: many stay when their parents come out
    the same.
    """
    counts: dict[str, Counter] = defaultdict(Counter)
    seeds: dict[tuple[str, ...], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    whys: dict[tuple[str, ...], dict[str, None]] = defaultdict(dict)
    for node, run_seed in jobs:
        path = node.path(run_seed)
        state = "stale" if path in currency.stale else "missing" if currency.contents[path] is None else "current"
        counts[node.paper][state] += 1
        if state != "current":
            seeds[node.key][state].append(node.seed(run_seed))
        if state == "stale":
            whys[node.key][currency.stale[path]] = None
    width = max(map(len, counts), default=0)
    lines = [
        "  ".join([f"{paper:{width}}", *(f"{found[state]:5} {state}" for state in STATES)]) for paper, found in counts.items()
    ]
    for key, found in seeds.items():
        said = [f"{state} (seed {', '.join(map(str, found[state]))})" for state in STATES if found[state]]
        said += [f"because {why}" for why in whys[key]]
        lines.append(f"{'/'.join(key)}: {', '.join(said)}")
    return "\n".join(lines)
