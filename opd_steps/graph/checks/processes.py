"""As how many processes a node's step runs, and whether it can use the processes and GPUs that the node asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config.plugs import constant
from opd_steps.config.teachers import engines
from opd_steps.errors import UserError
from opd_steps.process import devices

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def processes(node: GraphNode) -> int:
    """`resources.processes` where it is set; else one for each GPU of a training that no server has for itself, and one for all other
    steps and beside an engine in the step's own process."""
    asked = node.options["resources"]
    if asked["processes"] or not node.says.TRAINS or _inside(node.options):
        return asked["processes"] or 1
    return max(asked["gpu"] - sum(map(devices.wanted, engines(node.options).values())), 1)


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
    _check_servers(node, where)
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


def _check_servers(node: GraphNode, where: str) -> None:
    """Raises UserError where the GPUs of servers and those of the step's processes are more than the node asks for, or would be shared
    by several."""
    gpu, count = node.options["resources"]["gpu"], processes(node) if node.says.TRAINS else 0
    own = {key: engine for key, engine in engines(node.options).items() if engine["name"] == "server" and not engine.get("url")}
    asked = {key: devices.wanted(engine) for key, engine in own.items()}
    if not gpu:
        if explicit := [key for key, engine in own.items() if engine["gpus"]]:
            raise UserError(f"{where}.{explicit[0]}.gpus", "the node asks for no GPU: expected 0, or resources.gpu")
        return
    if (needed := count + sum(asked.values())) > gpu:
        whose = [f"{number} of {key}" for key, number in asked.items() if number]
        whose = [f"one for each of {count} processes", *whose] if count else whose
        raise UserError(f"{where}.resources.gpu", f"expected at least {needed} ({', '.join(whose)}), found {gpu}")
    if count > 1 and (shared := [key for key, number in asked.items() if not number]):
        what = f"a server beside {count} processes has GPUs of its own: expected at least 1, found 0"
        raise UserError(f"{where}.{shared[0]}.gpus", what)


def refused(says: type, options: dict, count: int) -> str:
    """Why a step of these options cannot be `count` processes; "" if it can. `says`: the class of its kind."""
    if count <= 1:
        return ""
    if not says.TRAINS:
        return "only a training is several processes, a node of this kind is one; leave it out"
    if key := _inside(options):
        return f"{key} vllm works in one process: expected 1, found {count}; or {key}.name: server"
    return ""


def _inside(options: dict) -> str:
    """The option that names an inference engine in the step's own process, "" where none does."""
    return next((key for key, engine in engines(options).items() if engine["name"] == "vllm"), "")
