"""As how many processes a node's step runs, and whether it can use the processes and GPUs that the node asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.errors import UserError
from opd_steps.graph.kinds import KINDS, Training

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def processes(kind: str, options: dict) -> int:
    """`resources.processes` where it is set; else one for each GPU of a training without inference engine, and one for all other steps."""
    asked = options["resources"]
    if asked["processes"] or not issubclass(KINDS[kind], Training) or _engine(options):
        return asked["processes"] or 1
    return max(asked["gpu"], 1)


def check_processes(node: GraphNode, where: str) -> None:
    """Raises UserError where a step cannot run as so many processes, or would leave GPUs unused."""
    asked, kind, options = node.options["resources"], node.kind, node.options
    if problem := refused(kind, options, asked["processes"]):
        raise UserError(f"{where}.resources.processes", problem)
    if asked["processes"] > asked["gpu"] > 0:
        raise UserError(
            f"{where}.resources.processes",
            f"expected at most one for each GPU (gpu: {asked['gpu']}), found {asked['processes']}",
        )
    if asked["gpu"] > 1 and not _uses_several(kind, options):
        raise UserError(
            f"{where}.resources.gpu", f"this {kind} node is one process on one GPU: expected at most 1, found {asked['gpu']}"
        )


def refused(kind: str, options: dict, count: int) -> str:
    """Why a step with these options cannot run as `count` processes; "" if it can."""
    if count <= 1:
        return ""
    if not issubclass(KINDS[kind], Training):
        return f"only pretrain, sft, rl and opd are several processes, {kind} is one; leave it out"
    if role := _engine(options):
        return f"{role} {options[role]['name']} works for one process: expected 1, found {count}; or {role}.name: local"
    return ""


def _engine(options: dict) -> str:
    """The option that names an inference engine, engine or teacher_engine; "" where torch models do everything."""
    return next((role for role in ("engine", "teacher_engine") if options.get(role, {}).get("name", "local") != "local"), "")


def _uses_several(kind: str, options: dict) -> bool:
    """Whether a step may use several GPUs: a training, a teacher's server, lm-eval whose `options` say how to spread a model."""
    server = options.get("teacher_engine", {}).get("name") == "server"
    return issubclass(KINDS[kind], Training) or server or bool(kind == "evaluate" and options["options"])
