"""References: options, anywhere among a node's, that name another node, a part of one (`node:b`), or a learner of the node itself."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from opd_steps.config.merge import held
from opd_steps.config.teachers import own_learner
from opd_steps.errors import UserError
from opd_steps.graph.kinds import KINDS
from opd_steps.graph.node import GraphNode

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")


@dataclass(frozen=True)
class Reference:
    """An option `at`, e.g. "teachers.math.model" or "peers[0]", that names `target`; its role is `at` with dots alone: "peers.0"."""

    at: str
    target: str
    produces: tuple[str, ...]
    own: bool

    @property
    def role(self) -> str:
        return self.at.replace("[", ".").replace("]", "")


def references(cls: type, options: dict, where: str, at: str = "") -> Iterator[Reference]:
    """Those of checked options, in the order of the fields: at the top, in dataclasses, lists of them, and mappings to them.

    Raises UserError where a mapping's key could not stand in a role.
    """
    for f in dataclasses.fields(cls):
        here, value = f"{at}{f.name}", options[f.name]
        if "ref" in f.metadata and value is not None:
            many = isinstance(value, list)
            for i, target in enumerate(value if many else [value]):
                yield Reference(f"{here}[{i}]" if many else here, target, f.metadata["ref"], f.metadata["own"])
        for step, inner, item in held(cls, f, value):
            key = step.removeprefix(".")
            if step.startswith(".") and not _KEY.fullmatch(key):
                raise UserError(
                    f"{where}.{here}{step}", "a name is made of letters, digits and single underscores between them"
                )
            yield from references(inner, item, where, f"{here}{step}.")


def link(node: GraphNode, scope: dict[str, GraphNode], where: str) -> None:
    """Find the nodes that a node names. Raises UserError, `where` being the node's place."""
    found = list(references(node.says, node.options, where))
    own = [r for r in found if r.own and own_learner(r.target) is not None]
    for ref in found:
        if ref not in own:
            _link(node, ref, scope, f"{where}.{ref.at}")
    for ref in own:
        _link_to_itself(node, ref, f"{where}.{ref.at}")


def _link(node: GraphNode, ref: Reference, scope: dict[str, GraphNode], where: str) -> None:
    name, colon, part = ref.target.partition(":")
    if name not in scope:
        raise UserError(where, unknown(name, scope))
    parent = scope[name]
    if parent.says.PRODUCES not in ref.produces:
        fits = [kind for kind, says in KINDS.items() if says.PRODUCES in ref.produces]
        raise UserError(where, f"'{name}' is a {parent.kind} node; expected one of: {', '.join(fits)}")
    if colon:
        require_part(parent, part, where)
    if parent.options["seed"] is None and node.options["seed"] is not None:
        place = where.removesuffix(ref.at) + "seed"
        raise UserError(place, f"this node is pinned to one seed but reads '{name}', which is not")
    node.parents[ref.role], node.parts[ref.role] = parent, part


def _link_to_itself(node: GraphNode, ref: Reference, where: str) -> None:
    """The node's own learner: its parent is what the learner starts from."""
    _, colon, learner = ref.target.partition(":")
    if colon and learner in node.says.parts(node) and learner not in node.options.get("learners", ()):
        raise UserError(where, f"'{learner}' is a milestone of this very node: it is there when the node is finished")
    if colon:
        require_part(node, learner, where)
    start = node.says.start(node, learner)
    if start not in node.parents:
        raise UserError(where, f"'{ref.target}' is a learner of this node that starts from {start or 'nothing'}; it names none")
    node.parents[ref.role], node.parts[ref.role] = node.parents[start], node.parts[start]
    node.own[ref.role] = learner


def require_part(node: GraphNode, part: str, where: str) -> None:
    """Raises UserError unless the node has such a part."""
    if part not in (known := node.says.parts(node)):
        has = f"its parts: {', '.join(known)}" if known else "it has no parts"
        raise UserError(where, f"'{node.name}' has no part '{part}'; {has}")


def unknown(name: object, known: Iterable) -> str:
    """The words for a name that is not there."""
    near = difflib.get_close_matches(str(name), list(known), 1)
    hint = f"Did you mean: '{near[0]}'?" if near else f"Known: {', '.join(known)}"
    return f"unknown name '{name}'. {hint}"
