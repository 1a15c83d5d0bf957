"""A paper's claims and what they require, checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opd_steps.errors import UserError
from opd_steps.graph.links import unknown
from opd_steps.graph.references import compared, sides

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode
    from opd_steps.graph.nodes import Graph
    from opd_steps.graph.references import Side

WITH_MARGIN = ("=", ">=", "<=")


@dataclass(frozen=True)
class Required:
    """A precondition by the name under which claims know it, what is written of it, and its sides."""

    name: str
    entry: dict
    sides: list[Side]


def required(graph: Graph, paper: str, index: int) -> list[Required]:
    """What a claim requires: of the nodes that the names mean in its own paper, whoever wrote the precondition.

    Raises UserError for a name that neither its paper nor one that this uses has.
    """
    where, known = f"{graph.papers[paper]['file']}.claims[{index}].requires", _known(graph, paper)
    found = []
    for i, name in enumerate(graph.papers[paper]["claims"][index]["requires"]):
        owners = known.get(name, ())
        if not owners:
            hint = unknown(name, known) if known else f"no precondition '{name}': this paper has none"
            raise UserError(f"{where}[{i}]", hint)
        if len(owners) > 1:
            raise UserError(f"{where}[{i}]", f"'{name}' is a precondition of several used papers: {', '.join(owners)}")
        written = graph.papers[owners[0]]["preconditions"][name]
        at = _place(graph, paper, name) if owners == (paper,) else f"{where}[{i}]"
        found.append(Required(name, written, compared(graph, paper, written, at)))
    return found


def claim_nodes(graph: Graph, paper: str) -> list[GraphNode]:
    """Checks all claims of a paper and returns the nodes that they, and what they require, measure."""
    claims, file = graph.papers[paper]["claims"], graph.papers[paper]["file"]
    ids = [c["id"] for c in claims]
    if len(set(ids)) != len(ids):
        raise UserError(f"{file}.claims", f"an id stands twice in {ids}")
    found: list[Side] = []
    for i, claim in enumerate(claims):
        _require_margin(claim, f"{file}.claims[{i}]")
        found += [*sides(graph, paper, i), *(side for needed in required(graph, paper, i) for side in needed.sides)]
    for name in graph.papers[paper]["preconditions"]:
        if not any(name in claim["requires"] for claim in claims):
            raise UserError(_place(graph, paper, name), "no claim of this paper requires it")
    return [node for side in found if isinstance(side, list) for node, _ in side]


def _require_margin(claim: dict, where: str) -> None:
    if (claim["op"] in WITH_MARGIN) != (claim["margin"] is not None):
        said = "is for the ops =, >= and <=" if claim["margin"] is not None else "above 0 is required"
        raise UserError(f"{where}.margin", f"a margin {said}; found op '{claim['op']}'")


def _place(graph: Graph, paper: str, name: str) -> str:
    return f"{graph.papers[paper]['file']}.preconditions.{name}"


def _known(graph: Graph, paper: str) -> dict[str, tuple[str, ...]]:
    """Precondition -> the papers that it may be of: a paper's own goes before those of papers that it uses."""
    found: dict[str, tuple[str, ...]] = {}
    for used in graph.uses(paper):
        for name, owners in _known(graph, used).items():
            found[name] = tuple(dict.fromkeys((*found.get(name, ()), *owners)))
    return found | {name: (paper,) for name in graph.papers[paper]["preconditions"]}
