"""Hooks held against the node that they look at: its data, how it samples, what it publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config.plugs import constant
from opd_steps.errors import UserError
from opd_steps.graph.code import FAMILIES, used_plugs

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def check_hooks(node: GraphNode, where: str) -> None:
    """Raises UserError for a hook that lacks what it looks at, and for two that would share a part or a curve."""
    options, drawn, best = node.options, {}, 0
    for i, item in enumerate(options["hooks"]):
        at, name = f"{where}.hooks[{i}]", item["name"]
        says = lambda attribute, name=name: constant("hooks", name, attribute)
        if says("UPDATE") and node.kind != "opd":
            raise UserError(at, f"{name} looks at update_of, which a {node.kind} node does not have: take an opd node")
        if says("PROMPTS") and (data := node.parents["data"]).origin.says.PRODUCES != "data":
            raise UserError(
                at, f"{name} asks prompts of a data node, and this one learns from the {data.kind} node '{data.name}'"
            )
        if says("SAMPLES"):
            _check_sampling(node, item, at)
        for curve in says("METRICS"):
            if drawn.setdefault(curve, i) != i:
                raise UserError(at, f"two hooks would draw one curve, train/{curve}")
        if item.get("best"):
            best += 1
            _check_best(options, at, best)
        if item.get("patience") and options["keep"]:
            raise UserError(f"{where}.keep", f"{name} may end the training before a milestone; leave one of the two out")


def _check_sampling(node: GraphNode, item: dict, at: str) -> None:
    if item.get("measure") == "nll":
        root = node.root_of(node.says.START)
        family = next(name for group, name in used_plugs(root.says, root.options) if group == FAMILIES)
        if not constant(FAMILIES, family, "TEXT"):
            raise UserError(f"{at}.measure", f"nll is of texts, which a {family} model has not: reward")
    elif not item["max_new_tokens"] and "sampling" not in node.options:
        raise UserError(f"{at}.max_new_tokens", f"a {node.kind} node samples nothing itself: say how long an answer may be")


def _check_best(options: dict, at: str, count: int) -> None:
    if count > 1:
        raise UserError(f"{at}.best", "two hooks would keep a part 'best'")
    if "best" in options["keep"] or "best" in options.get("learners", ()):
        raise UserError(f"{at}.best", "a milestone or learner of this node has the name 'best'")
