"""Equal sides: where a claim compares two models of which neither is made from the other, both cost the same and are measured alike.

What differs stands beside the verdict: with the paper's reason, `unequal: {steps: why}`, or marked as what the paper says nothing of.
So a user may edit one variant and look; in the papers of the repository all that differs is named (tests/unit/test_papers.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from opd_steps.errors import UserError
from opd_steps.graph.links import unknown
from opd_steps.graph.references import sides

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode
    from opd_steps.graph.nodes import Graph
    from opd_steps.graph.references import Side

WHAT = ("steps", "samples", "lr", "tokens", "evaluation")


def unequal(graph: Graph, paper: str, index: int) -> list[dict[str, str | None]]:
    """What differs between the sides of a claim: [{what, left, right, why}], `why` as the claim says it, None where it does not.

    Raises UserError for a name that is none of WHAT or could never be needed, and for an empty reason.
    """
    entry = graph.papers[paper]
    claim, where = entry["claims"][index], f"{entry['file']}.claims[{index}]"
    named = claim["unequal"]
    for what, why in named.items():
        if what not in WHAT:
            raise UserError(f"{where}.unequal.{what}", unknown(what, WHAT))
        if not why.strip():
            raise UserError(f"{where}.unequal.{what}", "say why in a few words")
    pairs = list(_pairs(*sides(graph, paper, index)))
    if named and not pairs:
        raise UserError(f"{where}.unequal", "this claim compares no two nodes; leave it out")
    found = {what: shown for left, right in pairs for what, shown in _differences(left, right).items()}
    return [{"what": what, "left": left, "right": right, "why": named.get(what)} for what, (left, right) in found.items()]


def unnamed(graph: Graph) -> list[str]:
    """A line for each claim of the selected papers whose sides differ in what it does not name."""
    lines = []
    for paper in graph.selected:
        for index, claim in enumerate(graph.papers[paper]["claims"]):
            if missing := [side for side in unequal(graph, paper, index) if side["why"] is None]:
                differ = "; ".join(f"{side['what']}: {side['left']} against {side['right']}" for side in missing)
                meant = ", ".join(f"{side['what']}: <why>" for side in missing)
                place = f"{graph.papers[paper]['file']}: claims[{index}]: '{claim['id']}'"
                lines.append(
                    f"{place} compares {claim['left']} with {claim['right']} at unequal {differ}. "
                    f"The report says so beside its verdict; if it is meant: unequal: {{{meant}}}"
                )
    return lines


def _pairs(left: Side, right: Side) -> Iterator[tuple[GraphNode, GraphNode]]:
    """The measuring nodes that a claim holds against each other, no node against itself.

    Like against like: of two differences the first terms, and the second ones; of one, against a number, its own two terms.
    """
    if isinstance(right, float):
        left, right = left[:-1], left[1:]
    elif len(left) != len(right):  # one term against both of a difference
        left, right = [term for term in left for _ in right], [term for _ in left for term in right]
    for (one, _), (other, _) in zip(left, right, strict=True):
        if one is not other:
            yield one, other


def _differences(left: GraphNode, right: GraphNode) -> dict[str, tuple[str, str]]:
    """In the order of WHAT: how they measure and, of the models that they measure, what was spent on these."""
    both = [left.says.budget(left), right.says.budget(right)] if left.says.MEASURES and right.says.MEASURES else [{}, {}]
    (one, part), (other, another) = _measured(left), _measured(right)
    if one not in other.ancestors() and other not in one.ancestors():
        both = [{**both[0], **one.says.budget(one, part)}, {**both[1], **other.says.budget(other, another)}]
    found = {what: _differ(both[0][what], both[1][what]) for what in WHAT if what in both[0] and what in both[1]}
    return {what: shown for what, shown in found.items() if shown}


def _measured(node: GraphNode) -> tuple[GraphNode, str]:
    """The model that a node measures, and which part of it; a training measures itself."""
    role = node.says.MEASURES
    return (node.parents[role], node.parts.get(role, "")) if role else (node, "")


def _differ(left: Any, right: Any) -> tuple[str, str] | None:
    """Both values as text, of mappings only what differs and both have; None where they are equal."""
    if isinstance(left, dict):
        keys = [key for key in left if key in right and left[key] != right[key]]
        return tuple(", ".join(f"{key} {side[key]}" for key in keys) for side in (left, right)) if keys else None
    return (str(left), str(right)) if left != right else None
