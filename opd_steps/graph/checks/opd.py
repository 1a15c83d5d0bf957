"""Checks of an opd node: teacher or scores, the terms of its method, context, buffer and controllers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config import plugs
from opd_steps.config.needs import terms, wide_plugs
from opd_steps.config.plugs import constant
from opd_steps.errors import UserError
from opd_steps.graph.checks.controllers import check_controllers
from opd_steps.graph.checks.engines import check_opd_engines
from opd_steps.graph.checks.method_rules import check_stream
from opd_steps.graph.train_metrics import opd_curves

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def check_opd(node: GraphNode, where: str) -> None:
    options, live, cached = node.options, "teacher" in node.parents, "scores" in node.parents
    if live == cached:
        raise UserError(where, "an opd node reads either a teacher or scores" + (", not both" if live else ""))
    method = options["method"]
    if cached and method["prefix"]["source"] != "student":
        raise UserError(
            f"{where}.method.prefix.source", "with scores the prefixes are those of the scored rollouts; leave it out"
        )
    for name, default in _LIVE_ONLY.items():
        if cached and options[name] != default:
            raise UserError(
                f"{where}.{name}", "with scores there are only the scored rollouts and what was written of them; leave it out"
            )
    check_opd_engines(options, cached, where)
    check_method(node, options, where)
    _check_buffer(options["buffer"], f"{where}.buffer")
    asked = {"pass_rates": constant("tasks/selection", options["select"]["name"], "RATES")}
    asked["update_of"] = any(constant("hooks", item["name"], "UPDATE") for item in options["hooks"])
    for role, needed in asked.items():
        if needed != (role in node.parents):
            found = (
                "is needed by this node's select or hooks: name it"
                if needed
                else "is read by nothing in this node; leave it out"
            )
            raise UserError(f"{where}.{role}", found)
    _check_context(node, where)
    check_controllers(node, where, lambda changed: check_method(node, changed, where))


def _check_buffer(buffer: dict, where: str) -> None:
    if buffer["metric"] and buffer["batches"] * buffer["passes"] == 1:
        raise UserError(f"{where}.metric", "rollouts used once are never old: batches or passes above 1, or leave it out")
    if buffer["mixed"] and (buffer["passes"] > 1 or buffer["batches"] == 1):
        raise UserError(f"{where}.mixed", "rollouts of several ages, each trained on once: batches above 1, passes 1")
    if buffer["below"] and not buffer["metric"]:
        raise UserError(f"{where}.below", "this is the bound of a metric; name it")


def _check_context(node: GraphNode, where: str) -> None:
    """Raises UserError where data, samples or method lack what the teacher's context needs."""
    options, context, data = node.options, node.options["context"]["name"], node.parents["data"].options
    has = lambda attribute: plugs.constant("teachers/contexts", context, attribute)
    if has("HINTS") and data["hints"]["name"] == "none":
        raise UserError(
            f"{where}.context", f"{context} shows attempts, and the data node does not say how: hints: marks or words"
        )
    if has("GROUP") and options["sampling"]["n"] < 2:
        raise UserError(f"{where}.sampling.n", f"the context {context} compares samples of one prompt: 2 or more")
    if not has("EDITS"):
        return
    if not any("stated" in plugs.constant("tasks/verifiers", v["name"], "METRICS") for v in plugs.chain(data["verifier"])):
        raise UserError(f"{where}.context", f"{context} restates confidences; the data's verifier must be with_confidence")
    for row in terms(options["method"]):
        plain = row["estimator"].get("ratio", "none") == "none" and row["against"] != "sampler"
        if not plain or any(item["name"] in ("importance", "freshness") for item in row["weight"]):
            raise UserError(
                f"{where}.method", f"the context {context} edits sampled tokens: there is no ratio to their sampler"
            )


_LIVE_ONLY = {
    "teacher_source": {"name": "frozen"},
    "context": {"name": "plain"},
    "select": {"name": "uniform"},
    "buffer": {"batches": 1, "passes": 1, "mixed": False, "metric": "", "below": 0.0},
}


def check_method(node: GraphNode, options: dict, where: str) -> None:
    """Raises UserError for a term of the method that cannot work. `options`: the node's, perhaps with a value that a controller sets."""
    method, cached = options["method"], "scores" in node.parents
    streams = terms(method)
    if options["minibatches"] > 1 and (wide := [name for stream in streams for name in wide_plugs(stream)]):
        raise UserError(f"{where}.minibatches", f"{wide[0]} looks at the whole batch, so the batch is not split: 1")
    read = [("buffer.metric", options["buffer"]["metric"])] if options["buffer"]["metric"] else []
    for i, item in enumerate(options["controllers"]):
        read += [(f"controllers[{i}]", name) for name in constant("schedules", item["name"], "READS")]
    for key, name in read:
        if name not in (known := opd_curves(options)):
            raise UserError(
                f"{where}.{key}", f"reads train/{name}, which this method does not draw; it draws {', '.join(known)}"
            )
    stored = node.parents["scores"].options["topk"] if cached else 0
    for i, stream in enumerate(streams):
        at = f"{where}.method" + (f".add[{i - 1}]" if i else "")
        if cached and stream["rows"] != "prefix":
            raise UserError(f"{at}.rows", "with scores there are no other rows than the scored ones; leave it out")
        against = stream["against"]
        source = options["teacher_source"]["name"]
        sampled_only = against == "teacher" and plugs.constant("teachers/sources", source, "ANSWERS") == "sampled"
        holder = "sampler" if against == "sampler" or sampled_only else "scores" if cached and against == "teacher" else "live"
        for item in stream["transform"]:
            if plugs.constant("objectives/transforms", item["name"], "SOURCE") not in ("", source):
                raise UserError(f"{at}.transform", f"{item['name']} needs the teacher source spans, not {source}")
        rows = method["prefix"]["source"] if stream["rows"] == "prefix" else stream["rows"]
        sampled = rows not in ("dataset", "mixture")
        check_stream(stream, at, holder, stored, options["sampling"], "reference" in node.parents, sampled)
