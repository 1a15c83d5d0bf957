"""The teachers of an opd node, checked: who they are, what they are shown, and what they are asked to sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config import plugs
from opd_steps.config.needs import terms
from opd_steps.config.plugs import constant
from opd_steps.config.teachers import SOURCES, Teaching, asked, learners, method_of, named, samplers
from opd_steps.errors import UserError
from opd_steps.graph.debates import debates, unheld

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

_RESERVED = ("student", "self", "sampler")
LIVE_ONLY = {
    "teacher_source": {"name": "frozen"},
    "context": {"name": "plain"},
    "select": {"name": "uniform"},
    "buffer": {"batches": 1, "passes": 1, "mixed": False, "ahead": False, "metric": "", "below": 0.0},
    "judges": [],
    "learners": {},
}


def check_teachers(node: GraphNode, where: str) -> dict[str, Teaching]:
    """All teachers by name. Raises UserError for one that cannot be made."""
    options, roles = node.options, node.parents
    if "teacher" in roles and "scores" in roles:
        raise UserError(where, "an opd node reads either a teacher or scores, not both")
    if not options["teachers"] and not {"teacher", "scores"} & roles.keys() and asked(options, {}):
        raise UserError(where, "an opd node reads either a teacher or scores")
    for key in ("teachers", "learners"):
        for name in options[key]:
            short = key == "teachers" and name in ("teacher", "reference") and name in roles
            if name in _RESERVED or short:
                found = "named twice: also by its short form" if short else f"{', '.join(_RESERVED)} mean something else"
                raise UserError(f"{where}.{key}.{name}", found)
    teachings = named(options, roles)
    for teaching in teachings.values():
        if teaching.at:
            _check_one(teaching, f"{where}.{teaching.at}")
        elif (needs := constant(SOURCES, teaching.weights["name"], "MODEL")) != "node":
            its = "model: self, " if needs == "self" else ""
            raise UserError(
                f"{where}.teacher_source",
                f"{teaching.weights['name']} is not for a teacher node: teachers: {{x: {{{its}weights: {teaching.weights['name']}}}}}",
            )
        for option, others in teaching.others_by_option.items():
            for other in others:
                if other not in teachings or teachings[other].others:
                    known = ", ".join(n for n, t in teachings.items() if not t.others)
                    raise UserError(f"{where}.{teaching.at}.weights.{option}", f"no teacher '{other}'; known here: {known}")
        alike = {(bool(t.scores), t.engine["name"] != "local") for t in (teachings[other] for other in teaching.others)}
        if any(constant(SOURCES, teachings[other].weights["name"], "ANSWERS") == "hidden" for other in teaching.others):
            raise UserError(
                f"{where}.{teaching.at}.weights", "each bridge reads the student in its own way: there is no router of them"
            )
        if len(alike) > 1:
            message = "those among whom rows are routed answer alike: all of them scores, all engines, or all local"
            raise UserError(f"{where}.{teaching.at}.weights", message)
    tables = {node.parents[t.scores].parents["rollouts"].key for t in teachings.values() if t.scores}
    if len(tables) > 1:
        raise UserError(f"{where}.teachers", "all scores of a node are of the same rollouts")
    for teaching in teachings.values():
        if teaching.scores:
            _check_temperature(node.parents[teaching.scores], options, where)
    return teachings


def _check_temperature(scores: GraphNode, options: dict, where: str) -> None:
    """Raises UserError where a student would be asked at another temperature than the teacher was, or compared with a sampler at another."""
    drawn = scores.parents["rollouts"].options.get("sampling", {}).get("temperature")
    at, mine = scores.options["temperature"] or drawn, options["sampling"]["temperature"]
    if at is not None and at != mine:
        what = f"the teacher was asked at {at}, where the student would be at {mine}: expected {at}"
        raise UserError(f"{where}.sampling.temperature", what)
    asked_of_it = any(
        row["estimator"].get("ratio") == "sampler" or row["against"] == "sampler" for row in terms(method_of(options, ""))
    )
    if drawn not in (None, mine) and asked_of_it:
        what = f"the rollouts were drawn at {drawn}, the student is asked at {mine}: the sampler's log-probs are of no use"
        raise UserError(f"{where}.method", what)


def check_answers(node: GraphNode, where: str, split: str = "train") -> None:
    """Raises UserError where a teacher's texts answer other prompts than the node's."""
    if "answers" not in node.parents:
        return
    found, data = node.parents["answers"], node.parents["data"]
    if found.parents["data"].key != data.key or found.options["split"] != split:
        of = f"{found.parents['data'].name}, split {found.options['split']}"
        raise UserError(
            f"{where}.answers", f"expected answers to the prompts of {data.name}, split {split}; found those of {of}"
        )


def check_asked(teachings: dict[str, Teaching], options: dict, where: str) -> None:
    """Raises UserError for a named teacher that nothing in the node asks, under any version of its options."""
    known = {*asked(options, teachings), *(other for teaching in teachings.values() for other in teaching.others)}
    for name, teaching in teachings.items():
        if teaching.at and name not in known:
            raise UserError(f"{where}.{teaching.at}", "no term, source or judge of this node asks this teacher; leave it out")


def _check_one(teaching: Teaching, where: str) -> None:
    of = lambda attribute: constant(SOURCES, teaching.weights["name"], attribute)
    given, needs = bool(teaching.model or teaching.own is not None), of("MODEL")
    if teaching.scores:
        plain = teaching.weights == {"name": "frozen"} and teaching.context == {"name": "plain"}
        if given or not plain or teaching.engine["name"] != "local":
            raise UserError(where, "with scores there is no teacher to run: leave out model, weights, context and engine")
        return
    if needs == "none" and given:
        raise UserError(f"{where}.model", f"weights {teaching.weights['name']} has no model of its own; leave it out")
    if needs == "none" and teaching.context != {"name": "plain"}:
        raise UserError(
            f"{where}.context", "what each of the teachers among whom rows are routed sees is its own; leave it out"
        )
    if needs != "none" and not given:
        raise UserError(f"{where}.model", "this key is required: a model node, self, or scores in its place")
    if needs == "self" and teaching.own is None:
        raise UserError(f"{where}.model", f"weights {teaching.weights['name']} are those of a learner: self or self:<learner>")


def check_context(node: GraphNode, teaching: Teaching, where: str) -> None:
    """What a teacher's context needs of data, samples and method."""
    options, context, data = node.options, teaching.context["name"], node.parents["data"].options
    at = f"{where}.{teaching.at}.context" if teaching.at else f"{where}.context"
    has = lambda attribute: constant("teachers/contexts", context, attribute)
    if has("HINTS") and data["hints"]["name"] == "none":
        raise UserError(at, f"{context} shows attempts, and the data node does not say how: hints: marks or words")
    if has("GROUP") and options["sampling"]["n"] < 2:
        raise UserError(f"{where}.sampling.n", f"the context {context} compares samples of one prompt: 2 or more")
    if teaching.context.get("feedback", "never") != "never" and not constant(
        "tasks/verifiers", data["verifier"]["name"], "SPEAKS"
    ):
        what = f"{context} shows what the verifier says of wrong samples, and '{data['verifier']['name']}' says nothing"
        raise UserError(f"{at}.feedback", f"{what}: never, or a verifier with feedback, as walk_feedback")
    if "expert" in teaching.context and (number := teaching.context["expert"]) >= (count := debates(node)[0]):
        what = f"the debate has {count} experts, numbered from 0" if count else "nobody has debated"
        raise UserError(
            f"{at}.expert", f"found {number}, and {what}: `data` names a debate node, or the prefix `turns` debaters"
        )
    if "expert" in teaching.context and (why := unheld(node)):
        raise UserError(f"{where}.data", why)
    task = data["task"]["name"]
    answers = constant("tasks/worlds", task, "ANSWERS")
    if answers and constant(SOURCES, teaching.weights["name"], "OTHER_TOKENIZER"):
        what = f"{teaching.weights['name']} reads texts in another tokenizer, and the task '{task}' writes tokens into them"
        raise UserError(f"{where}.{teaching.at}.weights" if teaching.at else f"{where}.teacher_source", what)
    if not has("EDITS"):
        return
    if answers:
        raise UserError(at, f"{context} edits texts, and the task '{task}' writes tokens into them")
    if not any("stated" in constant("tasks/verifiers", v["name"], "METRICS") for v in plugs.chain(data["verifier"])):
        raise UserError(at, f"{context} restates confidences; the data's verifier must be with_confidence")
    for row in (row for _, method in learners(options) for row in terms(method)):
        plain = row["estimator"].get("ratio", "none") == "none" and row["against"] != "sampler"
        if not plain or any(item["name"] in ("importance", "freshness") for item in row["weight"]):
            raise UserError(
                f"{where}.method", f"the context {context} edits sampled tokens: there is no ratio to their sampler"
            )


def check_source(source: dict, where: str, at: str, learner: str, teachings: dict[str, Teaching], options: dict) -> None:
    """What a learner's prefix source, which stands at `at` in the node at `where`, needs of other learners, a teacher and the
    student's engine."""
    of = lambda attribute: constant("prefixes", source["name"], attribute)
    names_of = [name for name, _ in learners(options)]
    before = names_of[: names_of.index(learner)]
    if of("LEARNER") and source["learner"] not in before:
        known = ", ".join(name or "the student ('')" for name in before) or "none"
        raise UserError(f"{at}.learner", f"no learner '{source['learner']}' before this one; before it: {known}")
    if of("LEARNER") and all(row["rows"] is not None for row in terms(method_of(options, source["learner"]))):
        raise UserError(f"{at}.learner", "all terms of that learner look at other `rows`; there are none of its own prefix")
    for sampler in samplers(source):
        who = teachings.get(sampler)
        if not (who and (who.scores or constant(SOURCES, who.weights["name"], "MODEL") == "node")):
            raise UserError(at, f"{source['name']} lets '{sampler}' sample, and the node names no such model")
    if of("MIXED") and options["engine"]["name"] != "local":
        raise UserError(
            f"{where}.engine.name", f"tokens are drawn from student and teacher at once ({source['name']}): use local"
        )
    for sampler in samplers(source):
        if teachings[sampler].engine["name"] != "local":
            raise UserError(
                f"{where}.{teachings[sampler].engine_key}.name",
                f"rows that the teacher samples ({source['name']}) need its own model: use local",
            )
