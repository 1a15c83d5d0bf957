"""The graph of a run, built and checked: what cannot work is refused before any job starts."""

from __future__ import annotations

from opd_steps.graph.checks.any_node import check_node
from opd_steps.graph.claims import claim_nodes
from opd_steps.graph.equal import unequal
from opd_steps.graph.node import GraphNode
from opd_steps.graph.nodes import Graph


def checked(graph: Graph) -> Graph:
    """The same graph. Raises UserError, with the place that wrote what is wrong, for a node that cannot run and for a claim that
    names inequalities wrongly.
    """
    for node in graph.nodes.values():
        with node.layers.blamed():
            check_node(node, node.layers.where)
    for name in graph.selected:
        for index in range(len(graph.papers[name]["claims"])):
            unequal(graph, name, index)
    return graph


def wanted(graph: Graph) -> list[GraphNode]:
    """Every node of the selected papers, and whatever these and their claims read, each once, parents first."""
    out: dict[tuple, GraphNode] = {}
    for node in list(graph.nodes.values()):
        if node.paper in graph.selected:
            out |= {n.key: n for n in node.ancestors()}
    for name in graph.selected:
        for node in claim_nodes(graph, name):
            out |= {n.key: n for n in node.ancestors()}
    return list(out.values())
