"""Stop strings of a node that somebody looks for: refused where nobody would."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config.plugs import constant
from opd_steps.errors import UserError
from opd_steps.graph.code import FAMILIES

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

_SAMPLES = ("model", "policy", "student")  # roles whose model samples, whoever else does


def check_stops(node: GraphNode, where: str) -> None:
    """Raises UserError for stop strings where nobody samples, and for a model that writes no text from left to right."""
    sampling = node.options.get("sampling")
    key, asked = ("stop", node.options.get("stop")) if sampling is None else ("sampling.stop", sampling["stop"])
    if not asked:
        return
    for role, parent in node.parents.items():
        if parent.says.PRODUCES == "scores":
            raise UserError(f"{where}.{key}", "with scores nobody samples: leave it out")
        if parent.says.PRODUCES != "model" or (role not in _SAMPLES and node.says.engine_of(node.options, role) != "engine"):
            continue
        family = node.family_of(role)
        if family and not constant(FAMILIES, family, "STOPS"):
            raise UserError(f"{where}.{key}", f"a {family} model ({role}) writes no text that a string could end: leave it out")
