"""What an evaluation measures, and which way is better: "up", "down", or "" where neither is. Its suite and its data's verifier say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config.plugs import chain, constant, constants

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def directions(node: GraphNode) -> dict[str, str]:
    """Metric -> direction of an evaluate node; benchmarks aside, whose names lm-eval alone knows."""
    suite = constants("evaluation/suites", node.options["suite"]["name"])
    there = lambda name: name in node.parents or bool(node.options[name])
    measured = lambda name: name not in suite["WHEN"] or there(suite["WHEN"][name])
    of_split = {name: way for name, way in suite["METRICS"].items() if measured(name)}
    if suite["VERIFIER"] and there(suite["VERIFIER"]):
        for verifier in chain(node.parents["data"].options["verifier"]):
            of_split |= constant("tasks/verifiers", verifier["name"], "METRICS")
    found = {f"{split}/{name}": way for split in node.options["splits"] for name, way in of_split.items()}
    return found | {name: way for name, way in suite["OWN"].items() if measured(name)}
