"""Gradients that speak of records, and prompts that come by chance: what else in the node would couple one record to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config.needs import outcome_need, terms, wide_plugs
from opd_steps.config.plugs import constant
from opd_steps.config.teachers import learners
from opd_steps.errors import UserError

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def check_apart(node: GraphNode, where: str) -> None:
    """Raises UserError for a gradient of records in a node whose steps are not made of records that know nothing of each other."""
    gradient = node.options.get("gradient")
    if gradient and constant("gradients", gradient["name"], "APART") and node.kind != "opd":
        raise UserError(
            f"{where}.gradient",
            f"{gradient['name']} counts on records that come each by its own chance, and a {node.kind} node draws them otherwise: "
            "take an opd node with select: poisson (as SFT: estimator mle, prefix records)",
        )


def check_chance(options: dict, where: str) -> None:
    """The same of an opd node's options, as a controller may have made them."""
    chance = constant("tasks/selection", options["select"]["name"], "CHANCE")
    if chance:
        _check_rows(options, where)
    for learner, gradient in _gradients(options):
        if constant("gradients", gradient["name"], "APART"):
            if learner or options["learners"]:
                raise UserError(f"{where}.learners", f"{gradient['name']} accounts for one learner; leave the others out")
            if not chance:
                raise UserError(f"{where}.select", f"{gradient['name']} counts on records that come by chance: poisson")
            _check_losses(options, gradient["name"], where)


def _gradients(options: dict) -> list[tuple[str, dict]]:
    return [("", options["gradient"]), *((name, view["gradient"]) for name, view in options["learners"].items())]


def _check_rows(options: dict, where: str) -> None:
    """Prompts that come by chance are a step's own, and all of them."""
    name, buffer = options["select"]["name"], options["buffer"]
    for key, value, single in (
        ("minibatches", options["minibatches"], 1),
        ("buffer.batches", buffer["batches"], 1),
        ("buffer.passes", buffer["passes"], 1),
        ("buffer.ahead", buffer["ahead"], False),
    ):
        if value != single:
            raise UserError(f"{where}.{key}", f"{name} makes the rows of each update anew: expected 1, found {value}")
    for learner, method in learners(options):
        at = f"{where}.learners.{learner}.method" if learner else f"{where}.method"
        if any(row["rows"] is not None for row in terms(method)):
            raise UserError(f"{at}.add", f"with {name} all terms look at the same rows; leave out rows")
        prefix = method["prefix"]["name"]
        if constant("prefixes", prefix, "TEXTS") and not constant("prefixes", prefix, "RECORDS"):
            raise UserError(
                f"{at}.prefix", f"{prefix} takes its texts in an order of its own, not those of the prompts: records"
            )


def _check_losses(options: dict, name: str, where: str) -> None:
    """Each record's loss is its own, and nothing is decided by what was measured on the records."""
    method, at = options["method"], f"{where}.method"
    if options["sampling"]["n"] > 1:
        raise UserError(f"{where}.sampling.n", f"for {name} a record is one row: expected 1, found {options['sampling']['n']}")
    if method["aggregate"] == "token_mean":
        raise UserError(f"{at}.aggregate", f"token_mean divides by the tokens of other records: for {name} take seq_mean")
    for row in terms(method):
        if wide := wide_plugs(row):
            raise UserError(at, f"{wide[0]} looks at the whole batch; for {name} each record's loss is its own")
        if outcome_need(row):
            raise UserError(at, f"a part of it compares the outcomes of records; for {name} each record's loss is its own")
    for i, item in enumerate(options["controllers"]):
        if constant("schedules", item["name"], "READS"):
            raise UserError(
                f"{where}.controllers[{i}]", f"{item['name']} decides by what it reads of the records; not with {name}"
            )
        if item["sets"] == "prompts":
            raise UserError(f"{where}.controllers[{i}].sets", f"{name} accounts for one rate of records in all updates")
    for key in ("hooks", "judges"):
        if options[key]:
            raise UserError(f"{where}.{key}", f"what they do with the records is not accounted for by {name}; leave them out")
    if options["spikes"]["factor"]:
        raise UserError(f"{where}.spikes.factor", f"an update left out because of a record tells of it; for {name} take 0")
    if options["on_nonfinite"] != "stop":
        raise UserError(f"{where}.on_nonfinite", f"an update left out because of a record tells of it; for {name} take stop")
