"""What typed options cannot say: combinations within a node, and data files that must exist, refused before any job starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from opd_steps.config.kinds import ANALYSES, ANALYZED
from opd_steps.config.method_rules import check_stream
from opd_steps.config.plugs import constant
from opd_steps.errors import UserError

if TYPE_CHECKING:
    from opd_steps.graph import GraphNode


def check_node(node: GraphNode, where: str) -> None:
    """Raises UserError for what cannot run."""
    for name in ("steps", "batch", "prompts", "micro_batch", "checkpoint_every", "minibatches"):
        if name in node.options and node.options[name] < 1:
            raise UserError(f"{where}.{name}", f"expected at least 1, found {node.options[name]}")
    engine = node.options.get("engine", {"name": "local"})
    if engine["name"] != "local":
        raise UserError(f"{where}.engine.name", f"engine '{engine['name']}' does not generate yet; use local")
    if node.kind == "rl" and (node.options["sampling"]["top_p"] < 1 or node.options["sampling"]["temperature"] <= 0):
        raise UserError(f"{where}.sampling", "the importance ratio needs plain sampling: temperature above 0 and top_p 1")
    if node.kind == "opd":
        _check_opd(node, where)
    if node.kind == "analyze":
        _check_analysis(node, where)
    if node.kind == "model" and bool(node.options["path"]) == bool(node.options["config"]):
        raise UserError(where, "a model node takes either path (a checkpoint) or config (a fresh model)")
    if node.kind == "model" and node.options["config"] and node.options["tokenizer"] == "char" and "data" not in node.parents:
        raise UserError(f"{where}.data", "the char tokenizer takes its alphabet from a data node; name it here")
    if node.kind == "data" and node.options["system"] is not None and not node.options["chat"]:
        raise UserError(f"{where}.system", "a system message is shown only with chat: true")
    for key, path in local_paths(node).items():
        if path.startswith((".", "/", "~")) and not Path(path).expanduser().exists():
            raise UserError(f"{where}.{key}", f"no such file or folder: {path}")
    if node.kind == "evaluate" and not node.options["splits"] and not node.options["benchmarks"]:
        raise UserError(f"{where}.splits", "nothing to evaluate: no splits and no benchmarks")


def local_paths(node: GraphNode) -> dict[str, str]:
    """What the node names by path or hub id, by the key that names it."""
    options = node.options
    named = {"source.path": options["source"].get("path")} if node.kind == "data" else {}
    if node.kind == "model":
        named = {"path": options["path"], "tokenizer": options["tokenizer"]}
    return {key: path for key, path in named.items() if path and path not in ("char", "byte")}


def _check_opd(node: GraphNode, where: str) -> None:
    options, live, cached = node.options, "teacher" in node.parents, "scores" in node.parents
    if live == cached:
        raise UserError(where, "an opd node reads either a teacher or scores" + (", not both" if live else ""))
    method = options["method"]
    if cached and method["prefix"]["source"] != "student":
        raise UserError(
            f"{where}.method.prefix.source", "with scores the prefixes are those of the scored rollouts; leave it out"
        )
    stored = node.parents["scores"].options["topk"] if cached else 0
    for i, stream in enumerate([method, *method["add"]]):
        at = f"{where}.method" + (f".add[{i - 1}]" if i else "")
        holder = "live" if live or stream["against"] == "reference" else "scores"
        check_stream(stream, at, holder, stored, options["sampling"])


def _check_analysis(node: GraphNode, where: str) -> None:
    """The roles named are those that the analysis needs; its whole numbers are at least 1, and what its RANGES say lies in them."""
    analysis = node.options["analysis"]
    name, needs = analysis["name"], constant(ANALYSES, analysis["name"], "NEEDS")
    for role in ANALYZED:
        if role in needs and role not in node.parents:
            raise UserError(f"{where}.{role}", f"this key is required: the analysis '{name}' reads {', '.join(needs)}")
        if role in node.parents and role not in needs:
            raise UserError(f"{where}.{role}", f"the analysis '{name}' would not look at it; it reads {', '.join(needs)}")
    ranges = dict.fromkeys((key for key, value in analysis.items() if isinstance(value, int)), (1, float("inf")))
    for key, (low, high) in (ranges | constant(ANALYSES, name, "RANGES", {})).items():
        if not low <= analysis[key] <= high:
            bound = f"at least {low}" if analysis[key] < low else f"at most {high}"
            raise UserError(f"{where}.analysis.{key}", f"expected {bound}, found {analysis[key]}")
    for key, low in (("limit", 0), ("temperature", 0), ("max_new_tokens", 1)):
        if node.options[key] < low:
            raise UserError(f"{where}.{key}", f"expected at least {low}, found {node.options[key]}")
