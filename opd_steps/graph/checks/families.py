"""What a node asks of its models, held against what their families say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config.plugs import constant
from opd_steps.errors import UserError
from opd_steps.graph.checks.processes import processes
from opd_steps.graph.kinds import MODELS
from opd_steps.graph.outline import root_model

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

_ENGINE_OF = {"policy": "engine", "student": "engine", "teacher": "teacher_engine"}


def check_families(node: GraphNode, where: str) -> None:
    """Raises UserError for an engine that does not run a model of the node, for several processes that cannot share one, and for text
    that one cannot read.
    """
    data = node.parents.get("data")
    text = data is not None and data.kind == "data" and constant("tasks/worlds", data.options["task"]["name"], "TEXTS")
    for role, parent in node.parents.items():
        if parent.kind not in MODELS:
            continue
        family = root_model(parent).options["family"]["name"]
        says = lambda name, family=family: constant("models/families", family, name)
        option = _ENGINE_OF.get(role, "")
        if option in node.options and (engine := node.options[option]["name"]) not in says("ENGINES"):
            what = f"{engine} runs no {family} model: expected {' or '.join(says('ENGINES'))}"
            raise UserError(f"{where}.{option}.name", what)
        if (count := processes(node.kind, node.options)) > 1 and not says("PARALLEL"):
            what = f"a {family} model is trained by one process: expected 1, found {count} (0: one for each GPU)"
            raise UserError(f"{where}.resources.processes", what)
        if text and not says("TEXT"):
            task = data.options["task"]["name"]
            raise UserError(
                f"{where}.data", f"'{data.name}' is text (task '{task}'), which the {family} model of {role} cannot read"
            )
