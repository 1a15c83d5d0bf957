"""A page of the kinds of nodes: what each is, and its options; both are read from its files."""

from __future__ import annotations

import ast
import inspect

from opd_steps.config.plugs import PACKAGE
from opd_steps.graph.kinds import KINDS
from tests import options_table
from tests.site.text import plain, told

HEAD = """# Kinds of nodes

A node of a paper has a kind: its options and checks stand in `opd_steps/graph/kinds/<kind>.py`, what its job does in
`opd_steps/steps/<kind>.py`. Options that hold others (Sampling, Optim, Resources ...): [](/options.md).
"""


def page() -> str:
    parts = [HEAD]
    for kind, cls in KINDS.items():
        step = ast.get_docstring(ast.parse((PACKAGE / "steps" / f"{kind}.py").read_text()))
        parts += [f"## {kind}\n", told(inspect.cleandoc(cls.__doc__)), f"Its step: {plain(step)}\n"]
        parts.append(options_table.table(["option"], options_table.options(cls), options_table.rules(cls)) + "\n")
    return "\n".join(parts)
