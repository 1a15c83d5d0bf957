"""The plan: what tracking and report need to know of the graph, as plain data."""

from __future__ import annotations

from opd_steps.config.needs import terms
from opd_steps.config.plugs import constant
from opd_steps.config.versions import versions
from opd_steps.graph.directions import directions
from opd_steps.graph.node import GraphNode
from opd_steps.graph.nodes import Graph
from opd_steps.graph.references import claim_nodes, sides

_UPWARD = ("model", "policy", "student")


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
        "parents": {role: "/".join(p.key) for role, p in node.parents.items()},
        "paths": {str(s): node.path(s) for s in seeds},
    } | ({"directions": directions(node)} if node.kind == "evaluate" else {})


def _claim(graph: Graph, paper: str, index: int, seeds: list[int]) -> dict:
    claim = dict(graph.papers[paper]["claims"][index])
    for key, side in zip(("left", "right"), sides(graph, paper, index), strict=True):
        label = str(claim[key])
        if isinstance(side, float):
            claim[key] = {"value": side, "label": label}
        else:
            node, metric = side
            claim[key] = {"paths": {str(s): node.path(s) for s in seeds}, "metric": metric, "label": label}
    return claim


def root_model(node: GraphNode) -> GraphNode:
    """The model node where a trained node's weights and tokenizer come from."""
    while node.kind != "model":
        node = next(node.parents[role] for role in _UPWARD if role in node.parents)
    return node


def preflight_pairs(graph: Graph, paper: str, seed: int) -> list[dict]:
    """Pairs of models that one node of the paper compares token by token: [{node, left, right}] with folders below results/."""
    pairs = []
    for node in graph.nodes.values():
        if node.paper != paper:
            continue
        for a, b in _compared(node):
            left, right = root_model(a), root_model(b)
            if left.key != right.key:
                pairs.append({"node": node.name, "left": left.path(seed), "right": right.path(seed)})
    unique = {(p["left"], p["right"]): p for p in pairs}
    return [unique[k] for k in sorted(unique)]


def preflight_topk(graph: Graph, paper: str, seed: int) -> list[dict]:
    """What a node of the paper asks of the vocabulary's size: [{node, key, k, model}], model's folder below results/."""
    asked = []
    for node in graph.nodes.values():
        if node.paper != paper or node.kind not in ("opd", "score"):
            continue
        model = root_model(node.parents["student" if node.kind == "opd" else "teacher"]).path(seed)
        for key, k in _topk(node):
            asked.append({"node": node.name, "key": key, "k": k, "model": model})
    return asked


def _topk(node: GraphNode) -> list[tuple[str, int]]:
    if node.kind == "score":
        return [("topk", node.options["topk"])] if node.options["topk"] else []
    found: dict[str, list] = {}
    for options in versions(node.options):
        for key, k in _method_topk(options["method"]):
            found.setdefault(key, []).append(k)
    return [(key, k) for key, ks in found.items() for k in dict.fromkeys(ks)]


def _method_topk(method: dict) -> list[tuple[str, int]]:
    found = []
    for i, row in enumerate(terms(method)):
        at = "method" + (f".add[{i - 1}]" if i else "")
        items = [(f"{at}.{slot}", row[slot]) for slot in ("support", "baseline")]
        items += [(f"{at}.{slot}[{j}]", item) for slot in ("transform", "weight") for j, item in enumerate(row[slot])]
        found += [(f"{key}.k", item["k"]) for key, item in items if "k" in item and item.get("support") != "full"]
    return found


def _compared(node: GraphNode) -> list[tuple[GraphNode, GraphNode]]:
    p = node.parents
    if node.kind == "opd":
        respelled = constant("teachers/sources", node.options["teacher_source"]["name"], "OTHER_TOKENIZER")
        others = [None if respelled else p.get("teacher") or p["scores"].parents["teacher"], p.get("reference")]
        return [(p["student"], other) for other in others if other]
    if node.kind == "score":
        return [(p["rollouts"].parents["policy"], p["teacher"])]
    if node.kind == "sft" and p["data"].kind == "rollout":
        return [(p["student"], p["data"].parents["policy"])]
    if node.kind == "evaluate" and "teacher" in p:
        return [(p["model"], p["teacher"])]
    if node.kind == "analyze" and "data" in p:
        return [(p["model"], p[role]) for role in ("other", "peer", "teacher") if role in p]
    return []
