"""Dtypes of a node's models and engines, and what else of their arithmetic is asked for: what goes together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config.plugs import constant
from opd_steps.config.teachers import SOURCES, engines, named
from opd_steps.errors import UserError

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

PLAIN = {
    "dtype": "float32",
    "attention": None,
    "weights": "float32",
    "published": None,
    "recompute": False,
    "packed": False,
    "micro_tokens": None,
}
"""What every family can do."""


def check_numerics(node: GraphNode, where: str) -> None:
    """Raises UserError for a dtype that nothing would be computed or held in."""
    options = node.options
    if options.get("weights") == "bfloat16" and options["dtype"] != "bfloat16":
        raise UserError(
            f"{where}.weights", "bfloat16 weights are not computed with in float32: dtype: bfloat16, or leave it out"
        )
    gradients = {"": options.get("gradient")} | {n: v.get("gradient") for n, v in options.get("learners", {}).items()}
    for name in (gradient["name"] for gradient in gradients.values() if gradient and options["micro_tokens"]):
        if rows := constant("gradients", name, "ROWS"):
            raise UserError(
                f"{where}.micro_tokens", f"gradient {name} takes {rows} row a pass, whatever its length; leave it out"
            )
    for key, engine in engines(options).items():
        if engine["dtype"] and (engine["name"] == "local" or engine.get("url")):
            whose = (
                "the server that url names has its own" if engine.get("url") else "local computes in the node's (or teacher's)"
            )
            raise UserError(f"{where}.{key}.dtype", f"{whose}; leave it out")
    dtypes = {options.get("dtype")}
    if "teacher_dtype" in options:
        teachings = named(options, node.parents)
        if options["teacher_dtype"] and "teacher" not in node.parents:
            raise UserError(f"{where}.teacher_dtype", "the node names no teacher; of others: teachers.<name>.dtype")
        for teaching in teachings.values():
            if teaching.dtype and (teaching.scores or constant(SOURCES, teaching.weights["name"], "MODEL") != "node"):
                at = f"{where}.{teaching.at}.dtype"
                raise UserError(at, "this teacher has no weights of its own that could be held in it; leave it out")
        dtypes |= {teaching.dtype for teaching in teachings.values()} - {None}
    if (options.get("attention") or "").startswith("flash") and dtypes != {"bfloat16"}:
        raise UserError(f"{where}.attention", f"{options['attention']} computes in bfloat16 alone: dtype: bfloat16")
