"""The plan: what tracking and report need to know of the graph, as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.graph.claims import claim_nodes, required
from opd_steps.graph.equal import unequal
from opd_steps.graph.node import GraphNode
from opd_steps.graph.nodes import Graph
from opd_steps.graph.references import sides

if TYPE_CHECKING:
    from opd_steps.graph.references import Side


def make(graph: Graph, root: dict) -> dict:
    """{"root", "papers": {name: {title, arxiv, axes, nodes, claims}}}; paths are relative to results/."""
    return {"root": root, "papers": {name: _paper(graph, name, root["seeds"]) for name in graph.selected}}


def _paper(graph: Graph, name: str, seeds: list[int]) -> dict:
    entry = graph.papers[name]
    own = [node for node in graph.nodes.values() if node.paper == name]
    nodes: dict[str, dict] = {}
    for top in [*own, *claim_nodes(graph, name)]:
        for node in top.ancestors():
            nodes[f"{node.kind}/{node.name}"] = _node(node, seeds)
    meta = entry["paper"]
    return {
        "title": meta["title"],
        "arxiv": meta["arxiv"],
        "axes": meta["axes"],
        "notes": meta["notes"],
        "file": entry["file"],
        "nodes": nodes,
        "claims": [_claim(graph, name, i, seeds) for i in range(len(entry["claims"]))],
    }


def _node(node: GraphNode, seeds: list[int]) -> dict:
    swept = node.parents["model"] if node.says.PRODUCES == "evaluation" else node
    return {
        "kind": node.kind,
        "name": node.name,
        "owner": node.paper,
        "options": node.options,
        "parents": {role: node.named(role, "/".join(p.key)) for role, p in node.parents.items()},
        "paths": {str(s): node.path(s) for s in seeds},
        "directions": node.says.directions(node),
        "family": swept.family,
        "point": swept.point,
    }


def _claim(graph: Graph, paper: str, index: int, seeds: list[int]) -> dict:
    claim = graph.papers[paper]["claims"][index]
    requires = [
        {"name": needed.name, **_compared(needed.entry, needed.sides, seeds)} for needed in required(graph, paper, index)
    ]
    return _compared(claim, sides(graph, paper, index), seeds) | {"requires": requires, "unequal": unequal(graph, paper, index)}


def _compared(entry: dict, both: list[Side], seeds: list[int]) -> dict:
    """A claim or precondition with its sides: their labels with a value, or with terms, of which a second one is subtracted."""
    return entry | {key: _side(str(entry[key]), side, seeds) for key, side in zip(("left", "right"), both, strict=True)}


def _side(label: str, side: Side, seeds: list[int]) -> dict:
    if isinstance(side, float):
        return {"label": label, "value": side}
    return {"label": label, "terms": [_term(node, metric, seeds) for node, metric in side]}


def _term(node: GraphNode, metric: str, seeds: list[int]) -> dict:
    """`prompts`: where its value at each prompt stands (Node.by_prompt), and of which data."""
    found = node.says.by_prompt(node, metric)
    prompts = found and found | {"data": "/".join(node.parents["data"].key)}
    return {"paths": {str(s): node.path(s) for s in seeds}, "metric": metric, "prompts": prompts}


def preflight_pairs(graph: Graph, paper: str, seed: int) -> list[dict]:
    """Pairs of models that one node of the paper compares token by token: [{node, left, right}] with folders below results/."""
    pairs = []
    for node in graph.nodes.values():
        if node.paper != paper:
            continue
        for left, right in node.says.compared(node):
            if left.key != right.key:
                pairs.append({"node": node.name, "left": left.path(seed), "right": right.path(seed)})
    unique = {(p["left"], p["right"]): p for p in pairs}
    return [unique[k] for k in sorted(unique)]


def preflight_topk(graph: Graph, paper: str, seed: int) -> list[dict]:
    """Every k of a top-k that a node of the paper asks for: [{node, key, k, model}], model's folder below results/."""
    nodes = [node for node in graph.nodes.values() if node.paper == paper]
    return [
        {"node": node.name, "key": key, "k": k, "model": model.path(seed)}
        for node in nodes
        for key, k, model in node.says.topks(node)
    ]
