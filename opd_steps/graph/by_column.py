"""Figures told apart by a column of a node's data (its option `by`): `train/reward/maths`, `test/avg_at_k/maths`."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

OF_ROWS = ("reward", "length", "truncated")  # of a training's sampled rows


def told_apart(node: GraphNode, metric: str, known: Container[str]) -> bool:
    """Whether a claim may name it: a figure that the node has of all rows, of those of one value. `known`: the figures that are told apart.

    Which values there are the data know; of a mixture, whose sources name them, another value is none.
    """
    column, (name, _, suffix) = node.options.get("by"), metric.partition(":")
    whole, _, value = name.rpartition("/")
    if not (column and value and whole in known and f"{whole}:{suffix}".rstrip(":") in node.says.metrics(node)):
        return False
    source = node.parents["data"].origin.options["source"]
    return value in source["of"] if source["name"] == "mixture" and source["column"] == column else True
