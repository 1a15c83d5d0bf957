"""Whether a node can use the machines that its job asks for: groups of GPUs of the trainer verl, each on one machine."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from opd_steps.config.teachers import engines
from opd_steps.errors import UserError
from opd_steps.graph.checks.trainers import by_verl

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def check_machines(node: GraphNode, where: str) -> None:
    """Raises UserError where a job of so many machines has nothing for some of them, or too few GPUs."""
    asked, trainer = node.options["resources"], node.options.get("trainer", {})
    own = by_verl(node.options) and not trainer["address"]
    if asked["nodes"] > 1 and not own:
        what = f"a job on several machines is for the trainer verl, without an address: expected 1, found {asked['nodes']}"
        raise UserError(f"{where}.resources.nodes", what)
    if not (own and asked["gpu"]):
        return
    size, groups = trainer["gpus_per_node"], groups_of(node.options)
    if asked["gpu"] < size:
        raise UserError(f"{where}.resources.gpu", f"expected at least trainer.gpus_per_node, {size}, found {asked['gpu']}")
    if asked["nodes"] != (needed := ceil(groups / (asked["gpu"] // size))):
        what = f"{groups} groups of {size} GPUs, on machines of {asked['gpu']}: expected {needed}, found {asked['nodes']}"
        raise UserError(f"{where}.resources.nodes", what)


def groups_of(options: dict) -> int:
    """Of GPUs: those that train, and those of a teacher's vLLM."""
    trainer = options["trainer"]
    serves = any(engine["name"] == "vllm" for key, engine in engines(options).items() if key != "engine")
    return trainer["nodes"] + (trainer["teacher_nodes"] if serves else 0)
