"""What papers write for nodes at a scale: a paper's own options, over those of the papers that it uses."""

from __future__ import annotations

import re

from opd_steps.errors import UserError
from opd_steps.graph.kinds import KINDS
from opd_steps.graph.links import unknown

EVALUATE = "evaluate"  # the kind of the nodes that a paper's section of this name makes
_NOTHING = {"kinds": {}, "nodes": {}, EVALUATE: {}}
_NAMED = re.compile(r"(\w+)(?::\w+)?\.\w")  # node.metric, node:part.metric
Written = list[tuple[str, dict]]  # (place, options), those that win last


def scale_of(paper: dict, scale: str) -> tuple[str, dict]:
    """(place, what stands there) of a paper's section for this scale. Raises UserError where it has others alone, or for an unknown kind."""
    scales, place = paper["scales"], f"{paper['file']}.scales"
    if scales and scale not in scales:
        raise UserError(place, f"no scale '{scale}'; this paper has: {', '.join(scales)}")
    found = scales.get(scale, _NOTHING)
    for kind in found["kinds"]:
        if kind not in KINDS:
            raise UserError(f"{place}.{scale}.kinds.{kind}", unknown(kind, KINDS))
    return f"{place}.{scale}", found


def of_kind(papers: list[dict], scale: str, kind: str) -> Written:
    """Options of all nodes of a kind. `papers`: those that are used, in order, and the paper itself, which wins, last."""
    found = [scale_of(paper, scale) for paper in papers]
    return [(f"{place}.kinds.{kind}", there["kinds"][kind]) for place, there in found if kind in there["kinds"]]


def of_evaluation(papers: list[dict], scale: str) -> Written:
    """The same of a paper's evaluations."""
    out: Written = []
    for paper in papers:
        place, found = scale_of(paper, scale)
        out += of_kind([paper], scale, EVALUATE)
        out += [(f"{paper['file']}.evaluate.options", paper[EVALUATE]["options"]), (f"{place}.evaluate", found[EVALUATE])]
    return out


def names(papers: list[dict]) -> set[str]:
    """The nodes that the last one's claims name, and the preconditions that they may require, unchecked."""
    entries = [*papers[-1]["claims"], *(entry for paper in papers for entry in paper["preconditions"].values())]
    return {name for entry in entries for side in ("left", "right") for name in _NAMED.findall(str(entry[side]))}
