"""Sides of a claim: metric references `node.metric` and `node:part.metric`, and differences of two, checked against what a kind measures."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from opd_steps.config.scalars import NUMBER, scalar
from opd_steps.errors import UserError
from opd_steps.graph.links import require_part

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode
    from opd_steps.graph.nodes import Graph

    Side = list[tuple[GraphNode, str]] | float
    """(measuring node, metric), one or two of which the second is subtracted; or a number."""

MINUS = " - "


def resolve(graph: Graph, paper: str, reference: str, where: str) -> tuple[GraphNode, str]:
    """(measuring node, metric name) of `node.metric` or, of a part's evaluation, `node:part.metric`.

    What a node measures itself is its own, the rest its evaluation's.

    Raises UserError naming the known metrics.
    """
    model, _, metric = reference.partition(".")
    name, colon, part = model.partition(":")
    node = graph.find(paper, name)
    if node is None or not metric:
        raise UserError(
            where, f"expected node.metric, found '{reference}'" + ("" if node else f"; this paper has no node '{name}'")
        )
    if colon:
        require_part(node, part, where)
    own = node.says.metrics(node)
    its = node.says.PRODUCES != "model" or metric.split("/")[0] in {known.split("/")[0] for known in own}
    if its and colon:
        raise UserError(where, f"what a part draws is its node's: {name}.{metric.replace('/', f'/{part}/', 1)}")
    measuring = node if its else graph.evaluation(paper, name, part)
    if measuring is None:
        raise UserError(where, f"'{model}' is not evaluated; add it to evaluate, or use one of: {', '.join(own) or 'none'}")
    if not measuring.says.measures(measuring, metric):
        known = measuring.says.metrics(measuring)
        near = difflib.get_close_matches(metric, known, 1)
        hint = f"did you mean: '{near[0]}'?" if near else f"known: {', '.join(k for k in known if ':' not in k)}"
        raise UserError(where, f"{measuring.kind} node '{model}' has no metric '{metric}'; {hint}")
    return measuring, metric


def side(graph: Graph, paper: str, written: object, where: str, number: bool = True) -> Side:
    """`node.metric`, `node.metric - node.metric`, or, where it may be one, a number. Raises UserError."""
    if not isinstance(written, str) or (number and NUMBER.fullmatch(written)):
        return scalar(float, written, where)
    terms = written.split(MINUS)
    if len(terms) > 2:
        raise UserError(where, f"expected node.metric, or a difference of two; found {len(terms)} terms in '{written}'")
    return [resolve(graph, paper, term, where) for term in terms]


def compared(graph: Graph, paper: str, entry: dict, where: str) -> list[Side]:
    """Both sides of a claim or precondition; a number can only stand on the right."""
    return [side(graph, paper, entry["left"], f"{where}.left", False), side(graph, paper, entry["right"], f"{where}.right")]


def sides(graph: Graph, paper: str, index: int) -> list[Side]:
    """The two sides of a claim, read once a graph."""
    if (paper, index) not in graph.sides:
        entry = graph.papers[paper]
        graph.sides[paper, index] = compared(graph, paper, entry["claims"][index], f"{entry['file']}.claims[{index}]")
    return graph.sides[paper, index]
