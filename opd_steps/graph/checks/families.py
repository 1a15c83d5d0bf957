"""What a node asks of its models, held against what their families say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config.plugs import constant
from opd_steps.config.teachers import engines
from opd_steps.errors import UserError
from opd_steps.graph.checks.numerics import PLAIN
from opd_steps.graph.checks.processes import processes
from opd_steps.graph.code import FAMILIES

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode

_READERS = ("pretrain", "sft")  # kinds whose rows are the data's own texts, where they read no rollouts
_ACTS = ("model", "policy", "student")  # who is shown the data's contexts


def check_families(node: GraphNode, where: str) -> None:
    """Raises UserError for an engine that does not run a model of the node, for several processes that cannot share one, for arithmetic
    that it does not know, and for text that it cannot read or learn from.
    """
    data = node.parents.get("data")
    task = data.options["task"]["name"] if data and data.says.PRODUCES == "data" else ""
    asked = engines(node.options)
    for role, parent in node.parents.items():
        if parent.says.PRODUCES != "model":
            continue
        family = node.family_of(role)
        if family is None:
            continue
        says = lambda name, family=family: constant(FAMILIES, family, name)
        option = node.says.engine_of(node.options, role)
        if option in asked and (engine := asked[option]["name"]) not in says("ENGINES"):
            what = f"{engine} runs no {family} model: expected {' or '.join(says('ENGINES'))}"
            raise UserError(f"{where}.{option}.name", what)
        if (count := processes(node)) > 1 and not says("PARALLEL"):
            what = f"a {family} model is trained by one process: expected 1, found {count} (0: one for each GPU)"
            raise UserError(f"{where}.resources.processes", what)
        unknown = says("LACKS") if says("NUMERICS") else PLAIN
        odd = [key for key, plain in PLAIN.items() if key in unknown and node.options.get(key, plain) != plain]
        if odd:
            raise UserError(f"{where}.{odd[0]}", f"a {family} model knows no such choice: leave it out")
        if role in _ACTS and task and node.kind in _READERS and not says("WRITTEN"):
            what = f"a {family} model learns written texts from masked copies: an opd node with prefix: {{name: masked}}"
            raise UserError(f"{where}.kind", what)
        if role in _ACTS and task and constant("tasks/worlds", task, "TEXTS") and not says("TEXT"):
            raise UserError(
                f"{where}.data", f"'{data.name}' is text (task '{task}'), which the {family} model of {role} cannot read"
            )
