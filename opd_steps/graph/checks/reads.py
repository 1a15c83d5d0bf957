"""Options that a plug of the node does not look at: set, they would do nothing, so they are refused."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from opd_steps.config.merge import merge
from opd_steps.config.plugs import constant
from opd_steps.errors import UserError

if TYPE_CHECKING:
    from opd_steps.graph.node import GraphNode


def refuse_unread(node: GraphNode, role: str, where: str, common: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What the node's plug `role` READS of the other options. Raises UserError for one of these that is set and not read.

    common   options that every plug of this role reads
    """
    kind = node.says
    own = {f.name: f for f in dataclasses.fields(kind) if f.name not in ("kind", "seed", "resources")}
    name = node.options[role]["name"]
    reads = constant(own[role].metadata["plug"], name, "READS")
    required = {key: node.options[key] for key, f in own.items() if f.default == "???"}
    default = merge(kind, {"kind": node.kind, **required}, where)
    for key in own.keys() - {role, *common, *reads}:
        if node.options[key] != default[key]:
            what = f"the {role} '{name}' would not look at it; it reads {', '.join(reads) or 'no option but its own'}"
            raise UserError(f"{where}.{key}", what)
    return reads
