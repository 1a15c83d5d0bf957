"""As how many processes a node's step runs, and whether it can use the processes and GPUs that the node asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config.plugs import constant
from opd_steps.config.teachers import engines
from opd_steps.errors import UserError

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def processes(node: GraphNode) -> int:
    """`resources.processes` where it is set; else one for each GPU of a training without inference engine, and one for all other steps."""
    asked = node.options["resources"]
    if asked["processes"] or not node.says.TRAINS or _engine(node.options):
        return asked["processes"] or 1
    return max(asked["gpu"], 1)


def check_processes(node: GraphNode, where: str) -> None:
    """Raises UserError where a step cannot run as so many processes, or would leave GPUs unused."""
    asked = node.options["resources"]
    if problem := refused(node.says, node.options, asked["processes"]):
        raise UserError(f"{where}.resources.processes", problem)
    if asked["processes"] > asked["gpu"] > 0:
        raise UserError(
            f"{where}.resources.processes",
            f"expected at most one for each GPU (gpu: {asked['gpu']}), found {asked['processes']}",
        )
    gradients = {"": node.options.get("gradient")} | {n: v.get("gradient") for n, v in node.options.get("learners", {}).items()}
    for learner, gradient in gradients.items():
        if gradient and (count := processes(node)) > 1 and not constant("gradients", gradient["name"], "PARALLEL"):
            at = f"{where}.learners.{learner}.gradient" if learner else f"{where}.gradient"
            raise UserError(at, f"{gradient['name']} works in one process: expected resources.processes 1, found {count}")
    if asked["gpu"] > 1 and not node.says.uses_gpus(node.options):
        raise UserError(
            f"{where}.resources.gpu",
            f"this {node.kind} node is one process on one GPU: expected at most 1, found {asked['gpu']}",
        )


def refused(says: type, options: dict, count: int) -> str:
    """Why a step of these options cannot be `count` processes; "" if it can. `says`: the class of its kind."""
    if count <= 1:
        return ""
    if not says.TRAINS:
        return "only a training is several processes, a node of this kind is one; leave it out"
    if key := _engine(options):
        return f"{key} {engines(options)[key]['name']} works for one process: expected 1, found {count}; or {key}.name: local"
    return ""


def _engine(options: dict) -> str:
    """The option that names an inference engine; "" where torch models do everything."""
    return next((key for key, engine in engines(options).items() if engine["name"] != "local"), "")
