"""The plan: what tracking and report need to know of the graph, as plain data."""

from __future__ import annotations

from opd_steps.graph.equal import unequal
from opd_steps.graph.node import GraphNode
from opd_steps.graph.nodes import Graph
from opd_steps.graph.references import claim_nodes, sides


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
    return {
        "kind": node.kind,
        "name": node.name,
        "owner": node.paper,
        "variant": node.name,
        "options": node.options,
        "parents": {role: node.named(role, "/".join(p.key)) for role, p in node.parents.items()},
        "paths": {str(s): node.path(s) for s in seeds},
        "directions": node.says.directions(node),
    }


def _claim(graph: Graph, paper: str, index: int, seeds: list[int]) -> dict:
    claim = graph.papers[paper]["claims"][index] | {"unequal": unequal(graph, paper, index)}
    for key, side in zip(("left", "right"), sides(graph, paper, index), strict=True):
        label = str(claim[key])
        if isinstance(side, float):
            claim[key] = {"value": side, "label": label}
        else:
            node, metric = side
            claim[key] = {"paths": {str(s): node.path(s) for s in seeds}, "metric": metric, "label": label}
    return claim


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
