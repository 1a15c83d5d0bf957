"""What the trainer verl cannot carry of a node, each with its reason: refused before anything starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from opd_steps.config.plugs import constant
from opd_steps.config.teachers import SOURCES, asked, named
from opd_steps.errors import UserError
from opd_steps.graph.code import FAMILIES, WORLDS, used_plugs

if TYPE_CHECKING:
    from opd_steps.config.asks import Asks
    from opd_steps.config.teachers import Teaching
    from opd_steps.graph.node import GraphNode


def by_verl(options: dict) -> bool:
    return options.get("trainer", {}).get("name") == "verl"


def training_gpus(options: dict) -> int:
    """Of verl: each is a rank."""
    return options["trainer"]["nodes"] * options["trainer"]["gpus_per_node"]


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


def _adapts(o: dict) -> bool:
    return constant("tune", o["tune"]["name"], "ADAPTS")


def _shapes(o: dict) -> Iterator[tuple[str, str]]:
    count, ranks = o["prompts"] * o["sampling"]["n"], training_gpus(o)
    if count % (ranks * o["minibatches"]):
        each = "a step" if o["minibatches"] == 1 else f"a step in {o['minibatches']} minibatches"
        yield "trainer", f"{count} rows of {each} are not the same number for each of {ranks} GPUs"
    if o["by"]:
        yield "by", "its figures are of all rows of a step"
    if _adapts(o) and o["weights"] != "float32":
        yield "weights", f"an adapter is in fp32 there, and so is what stands beside it: expected float32, found {o['weights']}"
    if o["checkpoint_async"]:
        yield "checkpoint_async", "it writes checkpoints in its own way"
    if o["keep"]:
        yield "keep", "it keeps no milestones"
    if o["optim"]["eight_bit"]:
        yield "optim.eight_bit", "its moments are fp32: false"
    if o["spikes"]["factor"]:
        yield "spikes.factor", "it makes every update: 0"
    if o["on_nonfinite"] != "stop":
        yield "on_nonfinite", "it ends at what is not finite: stop"
    if o["sampling"]["stop"]:
        yield "sampling.stop", "its rows end at end tokens alone"
    if o["engine"]["name"] != "vllm":
        yield "engine.name", "there vLLM samples: vllm"


def _rl(o: dict) -> Iterator[tuple[str, str]]:
    if o["dynamic_sampling"]:
        yield "dynamic_sampling", "it does not sample again for a step"


def _opd(node: GraphNode) -> Iterator[tuple[str, str]]:
    o = node.options
    teachings = named(o, node.parents)
    wanted = asked(o, teachings)
    whom = {name: teachings[name] for name in wanted if name in teachings}
    for teaching in whom.values():
        if teaching.scores:
            yield "scores", "it samples and asks teachers itself: a table needs no machines"
        elif teaching.engine["name"] == "server":
            yield f"{teaching.engine_key}.name", "a teacher is verl's vLLM, or a model in its training workers: vllm or local"
    for name in [name for name, found in whom.items() if _adapts(o) and constant(SOURCES, found.weights["name"], "MOVES")]:
        yield "tune", f"{name} follows whole weights, and an adapter is none: full"
    for name in [name for name, found in wanted.items() if found.hidden]:
        yield "method", f"of {name} hidden states are asked, and verl shows none of its student"
    served = [name for name, teaching in whom.items() if teaching.engine["name"] == "vllm"]
    if len(served) > 1:
        yield "method", f"one vLLM answers, not {len(served)}: {', '.join(sorted(served))}; engine local for the others"
    for name in served:
        yield from _served(o, whom[name], wanted[name])
    if o["buffer"]["batches"] * o["buffer"]["passes"] > 1 or o["buffer"]["ahead"]:
        yield "buffer", "each step trains on fresh rows"
    if o["learners"]:
        yield "learners", "it trains the student alone"
    for i, item in enumerate(o["controllers"]):
        if not item["sets"].startswith("method."):
            yield f"controllers[{i}].sets", "it samples as it began: an option of the method"


def _served(o: dict, teaching: Teaching, wanted: Asks) -> Iterator[tuple[str, str]]:
    """Of a teacher that is a server."""
    name = teaching.name
    if wanted.full:
        yield "method", f"of {name} the whole distribution is asked, and a server gives its likeliest tokens: engine local"
    if teaching.context["name"] != "plain":
        yield (
            f"{teaching.at or 'context'}",
            f"{name} reads another prompt than the student, which a server does not: engine local",
        )
    if o["sampling"]["temperature"] != 1:
        temperature = o["sampling"]["temperature"]
        yield "sampling.temperature", f"a server answers at 1: expected 1, found {temperature:g}, or engine local"
