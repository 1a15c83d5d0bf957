"""Checks of an opd node: teacher or scores, the terms of its method, context, buffer and controllers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from opd_steps.config.needs import terms, wide_plugs
from opd_steps.config.plugs import constant
from opd_steps.config.teachers import Teaching, learners, named, origin, sources
from opd_steps.errors import UserError
from opd_steps.graph.checks.apart import check_chance
from opd_steps.graph.checks.controllers import check_controllers
from opd_steps.graph.checks.engines import check_opd_engines
from opd_steps.graph.checks.method_rules import ENGINE, HIDDEN, LIVE, SAMPLER, Answer, check_stream, table
from opd_steps.graph.checks.teachers import LIVE_ONLY, check_answers, check_asked, check_context, check_source, check_teachers
from opd_steps.graph.train_metrics import opd_curves

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def check_opd(node: GraphNode, where: str) -> None:
    options = node.options
    teachings = check_teachers(node, where)
    cached = any(t.scores for t in teachings.values())
    for name, default in LIVE_ONLY.items():
        if cached and options[name] != default:
            raise UserError(
                f"{where}.{name}", "with scores there are only the scored rollouts and what was written of them; leave it out"
            )
    check_opd_engines(options, teachings.values(), where)
    check_method(node, options, where)
    _check_buffer(options, f"{where}.buffer")
    rates = {"pass_rates": "RATES", "teacher_rates": "TEACHER"}
    asked = {role: constant("tasks/selection", options["select"]["name"], name) for role, name in rates.items()}
    asked["update_of"] = any(constant("hooks", item["name"], "UPDATE") for item in options["hooks"])
    asked["answers"] = any(constant("judges", item["name"], "TEXTS") for item in options["judges"])
    for role, needed in asked.items():
        if needed != (role in node.parents):
            found = (
                "is needed by this node's select, judges or hooks: name it"
                if needed
                else "is read by nothing in this node; leave it out"
            )
            raise UserError(f"{where}.{role}", found)
    check_answers(node, where)
    _check_texts(node, where)
    for i, judge in enumerate(options["judges"]):
        if constant("judges", judge["name"], "LEARNER") and judge["learner"] not in options["learners"]:
            known = ", ".join(options["learners"]) or "none beside the student"
            raise UserError(f"{where}.judges[{i}].learner", f"no learner '{judge['learner']}' in this node; it has {known}")
    for teaching in teachings.values():
        check_context(node, teaching, where)
    check_controllers(node, where, lambda changed: check_method(node, changed, where))
    check_asked(teachings, options, where)


def _check_texts(node: GraphNode, where: str) -> None:
    """Raises UserError for samples that nobody reads, or that are not one of each prompt."""
    if "texts" not in node.parents:
        return
    found, data = node.parents["texts"], node.parents["data"]
    read = [source["name"] for _, method in learners(node.options) for source in sources(method)]
    read = [name for name in read if constant("prefixes", name, "TEXTS")]
    if not read:
        raise UserError(f"{where}.texts", "is read by nothing in this node; leave it out")
    if odd := [name for name in read if not constant("prefixes", name, "TRACES")]:
        raise UserError(f"{where}.texts", f"{odd[0]} reads no samples in a column's place; leave it out")
    each = {"split": "train", "limit": 0, "keep": "all", "sampling.n": 1}
    has = found.options | {"sampling.n": found.options["sampling"]["n"]}
    if wrong := [key for key, value in each.items() if has[key] != value]:
        what = f"expected one sample of each prompt to train on; {found.name} has {wrong[0]} {has[wrong[0]]}"
        raise UserError(f"{where}.texts", what)
    if found.parents["data"].key != data.key:
        of = f"expected answers to the prompts of {data.name}; found those of {found.parents['data'].name}"
        raise UserError(f"{where}.texts", of)


def _check_buffer(options: dict, where: str) -> None:
    buffer = options["buffer"]
    once = buffer["batches"] * buffer["passes"] == 1
    if options["learners"] and not (once and not buffer["ahead"]):
        raise UserError(
            f"{where}.batches", "with several learners each step trains on fresh rows: batches 1, passes 1, ahead false"
        )
    if buffer["ahead"] and not once:
        raise UserError(
            f"{where}.ahead", "each step's rows are sampled one step before, and trained on once: batches 1, passes 1"
        )
    if buffer["metric"] and once:
        raise UserError(f"{where}.metric", "rollouts used once are never old: batches or passes above 1, or leave it out")
    if buffer["mixed"] and (buffer["passes"] > 1 or buffer["batches"] == 1):
        raise UserError(f"{where}.mixed", "rollouts of several ages, each trained on once: batches above 1, passes 1")
    if buffer["below"] and not buffer["metric"]:
        raise UserError(f"{where}.below", "this is the bound of a metric; name it")


def check_method(node: GraphNode, options: dict, where: str) -> None:
    """Raises UserError for a term of a learner's method that cannot work; `options` may be a controller's version of the node's."""
    read = [("buffer.metric", options["buffer"]["metric"])] if options["buffer"]["metric"] else []
    for i, item in enumerate(options["controllers"]):
        read += [(f"controllers[{i}]", name) for name in constant("schedules", item["name"], "READS")]
    for key, name in read:
        if name not in (known := opd_curves(options)):
            raise UserError(
                f"{where}.{key}", f"reads train/{name}, which this method does not draw; it draws {', '.join(known)}"
            )
    check_chance(options, where)
    teachings = named(options, node.parents)
    answers = {name: _answer(node, teaching, teachings) for name, teaching in teachings.items()}
    for learner, method in learners(options):
        _check_terms(options, learner, method, where, teachings, answers)


def _check_terms(options: dict, learner: str, method: dict, where: str, teachings: dict, answers: dict[str, Answer]) -> None:
    streams, cached = terms(method), any(t.scores for t in teachings.values())
    of_method = f"{where}.learners.{learner}.method" if learner else f"{where}.method"
    if options["minibatches"] > 1 and (wide := [name for stream in streams for name in wide_plugs(stream)]):
        raise UserError(f"{where}.minibatches", f"{wide[0]} looks at the whole batch, so the batch is not split: 1")
    if cached and method["prefix"] != {"name": "student"}:
        raise UserError(f"{of_method}.prefix", "with scores the prefixes are those of the scored rollouts; leave it out")
    for i, stream in enumerate(streams):
        at = of_method + (f".add[{i - 1}]" if i else "")
        if cached and stream["rows"] is not None:
            raise UserError(f"{at}.rows", "with scores there are no other rows than the scored ones; leave it out")
        against = teachings.get(stream["against"])
        weights = against.weights["name"] if against else "frozen"
        if learner and constant("teachers/sources", weights, "ANSWERS") == "hidden":
            raise UserError(
                f"{at}.against", f"the bridge of '{stream['against']}' leads from the student's layers, not from {learner}'s"
            )
        for item in stream["transform"]:
            if constant("objectives/transforms", item["name"], "SOURCE") not in ("", weights):
                raise UserError(f"{at}.transform", f"{item['name']} needs the teacher source spans, not {weights}")
        own = stream["rows"] is None
        source = method["prefix"] if own else stream["rows"]
        check_source(source, where, f"{of_method}.prefix" if own else f"{at}.rows", learner, teachings, options)
        sampled = constant("prefixes", origin(source, options)["name"], "SAMPLED")
        check_stream(stream, at, answers, options["sampling"], sampled)


def _answer(node: GraphNode, teaching: Teaching, teachings: Mapping[str, Teaching]) -> Answer:
    """What it can say; of one that is several by turns, what all of them can."""
    if teaching.scores:
        return table(node.parents[teaching.scores].options["topk"])
    if several := [_answer(node, teachings[name], teachings) for name in teaching.others]:
        return min(several, key=lambda answer: (answer.full, answer.topk, answer.hidden))
    if (alone := constant("teachers/sources", teaching.weights["name"], "ANSWERS")) != "full":
        return SAMPLER if alone == "sampled" else HIDDEN if teaching.engine["name"] == "local" else ENGINE
    return LIVE if teaching.engine["name"] == "local" else ENGINE
