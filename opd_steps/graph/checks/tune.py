"""What a training changes of its models, held against all that looks at their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opd_steps.config.plugs import constant
from opd_steps.errors import UserError
from opd_steps.graph.checks.processes import processes
from opd_steps.graph.code import FAMILIES

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def check_tune(node: GraphNode, where: str) -> None:
    """Raises UserError where a node cannot train adapters, and for dropout in one that trains without."""
    options, name = node.options, node.options["tune"]["name"]
    says = lambda attribute: constant("tune", name, attribute)
    if not says("ADAPTS"):
        return
    for role in (node.says.START, *(f"learners.{learner}.model" for learner in options.get("learners", ()))):
        family = node.family_of(role)
        if family and not constant(FAMILIES, family, "ADAPTS"):
            raise UserError(f"{where}.tune", f"{name} adapts no {family} model: use full")
    if options["published"]:
        raise UserError(f"{where}.published", "an adapter is published in fp32; leave it out")
    for i, hook in enumerate(options.get("hooks", ())):
        if constant("hooks", hook["name"], "WEIGHTS"):
            what = f"{hook['name']} moves the model's own weights, which tune {name} leaves as they are: tune full, or leave it out"
            raise UserError(f"{where}.hooks[{i}]", what)
    if (option := says("DROPOUT")) and options["tune"][option] and not node.says.DROPOUT:
        what = f"expected 0, found {options['tune'][option]:g}: {node.kind} trains without dropout, as its samples are drawn without"
        raise UserError(f"{where}.tune.{option}", what)
    if (count := processes(node)) > 1 and not says("PARALLEL"):
        raise UserError(f"{where}.tune", f"{name} works in one process: expected resources.processes 1, found {count}")
