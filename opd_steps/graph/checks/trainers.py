"""What the trainer verl cannot carry of a node, each with its reason: refused before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from opd_steps.config.needs import asks, terms, wide_plugs
from opd_steps.config.plugs import constant
from opd_steps.config.teachers import named
from opd_steps.errors import UserError
from opd_steps.graph.code import FAMILIES, WORLDS, used_plugs

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def by_verl(options: dict) -> bool:
    return options.get("trainer", {}).get("name") == "verl"


def check_trainer(node: GraphNode, where: str) -> None:
    """Raises UserError for the first thing that the node's trainer does not carry."""
    if by_verl(node.options):
        for key, why in uncarried(node):
            raise UserError(f"{where}.{key}" if key else where, f"not with trainer verl: {why}")


def uncarried(node: GraphNode) -> Iterator[tuple[str, str]]:
    """(option, reason) of each thing in an opd or rl node that verl does not carry."""
    yield from _plugs(node)
    yield from _shapes(node.options)
    yield from _opd(node) if node.kind == "opd" else _rl(node.options)


def _plugs(node: GraphNode) -> Iterator[tuple[str, str]]:
    """What plugs say of themselves: those of the node's options, its student's family, its data's world."""
    used = dict.fromkeys(used_plugs(node.says, node.options))
    for origin, group in ((node.maker_of(node.says.START), FAMILIES), (node.parents["data"].origin, WORLDS)):
        used |= dict.fromkeys(plug for plug in used_plugs(origin.says, origin.options) if plug[0] == group)
    for group, name in used:
        if why := constant(group, name, "UNCARRIED"):
            yield "", f"{group.rsplit('/')[-1]} {name}: {why}"


def _shapes(o: dict) -> Iterator[tuple[str, str]]:
    count, trainer = o["prompts"] * o["sampling"]["n"], o["trainer"]
    ranks = trainer["nodes"] * trainer["gpus_per_node"]
    if count % ranks:
        yield "trainer", f"{count} rows of a step are not the same number for each of {ranks} GPUs"
    if o["minibatches"] > 1:
        yield "minibatches", f"it makes one update of a step's rows: expected 1, found {o['minibatches']}"
    if o["by"]:
        yield "by", "its figures are of all rows of a step"
    if o["checkpoint_async"]:
        yield "checkpoint_async", "it writes checkpoints in its own way"
    if o["keep"]:
        yield "keep", "it keeps no milestones"
    if o["spikes"]["factor"]:
        yield "spikes.factor", "it makes every update: 0"
    if o["on_nonfinite"] != "stop":
        yield "on_nonfinite", "it ends at what is not finite: stop"
    if o["engine"]["name"] != "vllm":
        yield "engine.name", "there vLLM samples: vllm"


def _rl(o: dict) -> Iterator[tuple[str, str]]:
    if o["kl"]:
        yield "kl", "there is no reference beside the policy: 0"
    if o["dynamic_sampling"]:
        yield "dynamic_sampling", "it does not sample again for a step"


def _opd(node: GraphNode) -> Iterator[tuple[str, str]]:
    o = node.options
    teachings = named(o, node.parents)
    whom = {
        name: asked for row in terms(o["method"]) for name, asked in asks(row).items() if name not in ("sampler", "student")
    }
    for name in sorted(whom):
        if name == "reference":
            yield "reference", "there is no reference beside the teacher"
        elif teachings[name].scores:
            yield "scores", "it samples and asks teachers itself: a table needs no machines"
        elif teachings[name].own is not None:
            yield f"teachers.{name}.model", "the teacher is a server of its own, not the student"
        elif teachings[name].engine["name"] != "vllm":
            yield f"{teachings[name].engine_key}.name", "there the teacher is vLLM: vllm"
    if len(set(whom) - {"reference"}) > 1:
        yield "method", f"one teacher is asked, not {len(whom)}: {', '.join(sorted(whom))}"
    for row in terms(o["method"]):
        for name, asked in asks(row).items():
            if name != "sampler" and asked.full:
                yield "method", f"of {name} the whole distribution is asked, and a server gives its likeliest tokens"
            if name != "sampler" and asked.hidden:
                yield "method", f"of {name} hidden states are asked, and a server gives none"
        if wide := wide_plugs(row):
            yield "method", f"{wide[0]} looks at the whole batch before the update, and a rank sees its own rows"
    if whom and o["sampling"]["temperature"] != 1:
        yield "sampling.temperature", f"there the teacher answers at 1: expected 1, found {o['sampling']['temperature']:g}"
    if o["buffer"]["batches"] * o["buffer"]["passes"] > 1:
        yield "buffer", "each step trains on fresh rows"
    if o["learners"]:
        yield "learners", "it trains the student alone"
