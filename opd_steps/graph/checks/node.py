"""What typed options cannot say: combinations within a node, and data files that must exist, refused before any job starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config import plugs
from opd_steps.config.plugs import constant
from opd_steps.config.scalars import shown
from opd_steps.errors import UserError
from opd_steps.graph.checks.engines import check_engine
from opd_steps.graph.checks.families import check_families
from opd_steps.graph.checks.opd import check_opd
from opd_steps.graph.checks.processes import check_processes
from opd_steps.graph.checks.reads import refuse_unread
from opd_steps.graph.kinds import ANALYSES, ANALYZED
from opd_steps.store.sources import is_there, named

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def check_node(node: GraphNode, where: str) -> None:
    """Raises UserError for what cannot run."""
    for role in ("engine", "teacher_engine"):
        if role in node.options:
            check_engine(node.options[role], f"{where}.{role}")
    check_processes(node, where)
    check_families(node, where)
    if node.kind == "rl" and (node.options["sampling"]["top_p"] < 1 or node.options["sampling"]["temperature"] <= 0):
        raise UserError(f"{where}.sampling", "the importance ratio needs plain sampling: temperature above 0 and top_p 1")
    if node.kind == "opd":
        check_opd(node, where)
    if node.kind == "analyze":
        _check_analysis(node, where)
    if node.kind == "model":
        _check_model(node, where)
    if node.kind == "data":
        _check_data(node, where)
    if node.kind == "evaluate":
        _check_evaluation(node, where)
    for key, path in named(node.kind, node.options).items():
        if not path.strip():
            raise UserError(f"{where}.{key}", f"expected a path or a hub id, found {shown(path)}")
        if path.startswith((".", "/", "~")) and not is_there(path):
            raise UserError(f"{where}.{key}", f"no such file or folder: {path}")


def _check_model(node: GraphNode, where: str) -> None:
    reads, options = refuse_unread(node, "family", where), node.options
    if {"path", "config"} <= {*reads} and bool(options["path"]) == bool(options["config"]):
        raise UserError(where, "a model node takes either path (a checkpoint) or config (a fresh model)")
    if "tokenizer" in reads and options["config"] and options["tokenizer"] in ("char", "bpe") and "data" not in node.parents:
        raise UserError(f"{where}.data", "the char and bpe tokenizers take their alphabet from a data node; name it here")


def _check_data(node: GraphNode, where: str) -> None:
    if "source" not in refuse_unread(node, "task", where):
        return
    options = node.options
    if options["system"] is not None and not options["chat"]:
        raise UserError(f"{where}.system", "a system message is shown only with chat: true")
    hinted = [plugs.constant("tasks/sources", source["name"], "HINTS") for source in plugs.chain(options["source"])]
    if any(hinted[1:]):
        raise UserError(f"{where}.source", "attempts are shown of whole solutions: the source that shows them is the outermost")
    if hinted[0] and options["hints"]["name"] == "none":
        raise UserError(f"{where}.hints", f"source '{options['source']['name']}' shows attempts; say how: marks or words")


_OF_ALL_SUITES = ("model", "data", "teacher", "splits", "limit", "max_new_tokens", "batch")


def _check_evaluation(node: GraphNode, where: str) -> None:
    refuse_unread(node, "suite", where, _OF_ALL_SUITES)
    suite, task = node.options["suite"]["name"], node.parents["data"].options["task"]["name"]
    if constant("evaluation/suites", suite, "TEXTS") and not constant("tasks/worlds", task, "TEXTS"):
        raise UserError(f"{where}.suite", f"'{suite}' asks questions in text, and the task '{task}' of its data has none")


def _check_analysis(node: GraphNode, where: str) -> None:
    """The roles named are those that the analysis needs."""
    name = node.options["analysis"]["name"]
    needs = constant(ANALYSES, name, "NEEDS")
    for role in ANALYZED:
        if role in needs and role not in node.parents:
            raise UserError(f"{where}.{role}", f"this key is required: the analysis '{name}' reads {', '.join(needs)}")
        if role in node.parents and role not in needs:
            raise UserError(f"{where}.{role}", f"the analysis '{name}' would not look at it; it reads {', '.join(needs)}")
