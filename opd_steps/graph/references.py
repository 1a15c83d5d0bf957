"""Claims: metric references `node.metric` and `node:part.metric`, checked against what each kind measures before anything runs."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from opd_steps.config.scalars import NUMBER, scalar
from opd_steps.errors import UserError
from opd_steps.graph.links import require_part

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode
    from opd_steps.graph.nodes import Graph

_NAMED = re.compile(r"(\w+)(?::\w+)?\.\w")


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


def sides(graph: Graph, paper: str, index: int) -> list[tuple[GraphNode, str] | float]:
    """The two sides of a claim: (measuring node, metric), or a number on the right."""
    entry = graph.papers[paper]
    claim, where = entry["claims"][index], f"{entry['file']}.claims[{index}]"
    out = [resolve(graph, paper, claim["left"], f"{where}.left")]
    right = claim["right"]
    if isinstance(right, str) and not NUMBER.fullmatch(right):
        return [*out, resolve(graph, paper, right, f"{where}.right")]
    return [*out, scalar(float, right, f"{where}.right")]


def names(paper: dict) -> set[str]:
    """The nodes that a paper's claims name, unchecked."""
    return {name for claim in paper["claims"] for side in ("left", "right") for name in _NAMED.findall(str(claim[side]))}


def claim_nodes(graph: Graph, paper: str) -> list[GraphNode]:
    """Checks all claims of a paper and returns the nodes that they measure."""
    claims = graph.papers[paper]["claims"]
    ids = [c["id"] for c in claims]
    if len(set(ids)) != len(ids):
        raise UserError(f"{graph.papers[paper]['file']}.claims", f"an id stands twice in {ids}")
    found = [side for i in range(len(claims)) for side in sides(graph, paper, i)]
    return [side[0] for side in found if isinstance(side, tuple)]
