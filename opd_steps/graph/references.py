"""Claims: metric references `node.metric`, checked against what each kind measures before anything runs."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from opd_steps.config.plugs import constant
from opd_steps.config.scalars import NUMBER, scalar
from opd_steps.errors import UserError
from opd_steps.graph.directions import directions
from opd_steps.graph.kinds import ANALYSES
from opd_steps.graph.train_metrics import TRAIN_METRICS, opd_curves

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode
    from opd_steps.graph.nodes import Graph

SUFFIXES = ("", ":first", ":mean", ":max")
ROLLOUT_METRICS = ("rollout/accuracy", "rollout/length", "rollout/kept", "rollout/truncated")


def node_metrics(node: GraphNode) -> list[str]:
    """Names of what a node measures itself."""
    if node.kind in TRAIN_METRICS:
        names = opd_curves(node.options) if node.kind == "opd" else TRAIN_METRICS[node.kind]
        names = [*names, *(["skipped"] if node.options["on_nonfinite"] == "skip" else [])]
        return [f"train/{name}{suffix}" for name in names for suffix in SUFFIXES]
    if node.kind == "rollout":
        return list(ROLLOUT_METRICS)
    if node.kind == "evaluate":
        return list(directions(node))
    if node.kind == "analyze":
        return list(constant(ANALYSES, node.options["analysis"]["name"], "METRICS"))
    return []


def resolve(graph: Graph, paper: str, reference: str, where: str) -> tuple[GraphNode, str]:
    """(measuring node, metric name) of `node.metric`; train/ and rollout/ metrics and analyses are the node's own, others its evaluation's.

    Raises UserError naming the known metrics.
    """
    name, _, metric = reference.partition(".")
    node = graph.find(paper, name)
    if node is None or not metric:
        raise UserError(
            where, f"expected node.metric, found '{reference}'" + ("" if node else f"; this paper has no node '{name}'")
        )
    own = node.kind == "analyze" or metric.startswith(("train/", "rollout/"))
    measuring = node if own else graph.evaluation(paper, name)
    if measuring is None:
        raise UserError(
            where, f"'{name}' is not evaluated; add it to evaluate, or use one of: {', '.join(node_metrics(node)) or 'none'}"
        )
    known = node_metrics(measuring)
    task = metric.split("/")[0]
    if metric not in known and not (measuring.kind == "evaluate" and "/" in metric and task in measuring.options["benchmarks"]):
        near = difflib.get_close_matches(metric, known, 1)
        hint = f"did you mean: '{near[0]}'?" if near else f"known: {', '.join(k for k in known if ':' not in k)}"
        raise UserError(where, f"{measuring.kind} node '{name}' has no metric '{metric}'; {hint}")
    return measuring, metric


def sides(graph: Graph, paper: str, index: int) -> list[tuple[GraphNode, str] | float]:
    """The two sides of a claim: (measuring node, metric), or a number on the right."""
    entry = graph.papers[paper]
    claim, where = entry["claims"][index], f"{entry['file']}.claims[{index}]"
    out = [resolve(graph, paper, claim["left"], f"{where}.left")]
    right = claim["right"]
    if isinstance(right, str) and not NUMBER.fullmatch(right):
        return [*out, resolve(graph, paper, right, f"{where}.right")]
    return [*out, scalar(float, right, f"{where}.right")]


def claim_nodes(graph: Graph, paper: str) -> list[GraphNode]:
    """Checks all claims of a paper and returns the nodes that they measure."""
    claims = graph.papers[paper]["claims"]
    ids = [c["id"] for c in claims]
    if len(set(ids)) != len(ids):
        raise UserError(f"{graph.papers[paper]['file']}.claims", f"an id stands twice in {ids}")
    found = [side for i in range(len(claims)) for side in sides(graph, paper, i)]
    return [side[0] for side in found if isinstance(side, tuple)]
