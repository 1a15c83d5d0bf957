"""A page for each group of plugs: what each is, by its docstring, with its options, the papers that name it, and its source."""

from __future__ import annotations

import ast
import dataclasses

from opd_steps.config import plug_schema, plugs
from tests import options_table
from tests.site.links import of_plug
from tests.site.text import folded, plain, table, toctree, told, verbatim

OVERVIEW = """# Plugs

A plug is one file, found by its name: `opd_steps/<group>/<name>.py`, a frozen dataclass whose fields are its options and whose docstring is
its formula. These pages are made from the files. All options on one page: [](/options.md). How to add one: [](/extend.md).
"""


def named_by() -> dict[str, list[str]]:
    """The options that name plugs of each group."""
    found: dict[str, list[str]] = {}
    holders = {cls.__name__: cls for cls in options_table.classes().values()}
    for group in options_table.groups():
        holders |= {f"{group}/{name}": plug_schema.schema(group, name) for name in plug_schema.names(group)}
    for name, cls in holders.items():
        for f in dataclasses.fields(cls):
            if "plug" in f.metadata:
                found.setdefault(f.metadata["plug"], []).append(f"`{f.name}` of {name.removesuffix('Node').lower()}")
    return found


def pages(papers: dict[tuple[str, str], list[str]]) -> dict[str, str]:
    """Markdown by name. `papers`: which name each plug."""
    groups = sorted(options_table.groups())
    rows = [[f"[{group}]({of_plug(group)})", plain(_module(group)), str(len(plug_schema.names(group)))] for group in groups]
    overview = OVERVIEW + "\n" + table(["group", "says", "plugs"], rows) + "\n" + toctree(*(f"plugs/{g}" for g in groups))
    slots = named_by()
    return {"plugs.md": overview} | {f"plugs/{group}.md": _page(group, slots[group], papers) for group in groups}


def _module(group: str) -> str:
    return ast.get_docstring(ast.parse((plugs.PACKAGE / group / "__init__.py").read_text()))


def _page(group: str, slots: list[str], papers: dict[tuple[str, str], list[str]]) -> str:
    protocol = plugs.protocol_def(group)
    parts = [f"# {group}\n", plain(_module(group)) + "\n", f"Named by {', '.join(dict.fromkeys(slots))}.\n"]
    for name in plug_schema.names(group):
        parts += [f"## {name}\n", told(options_table.says(group, name))]
        rules = options_table.rules(plug_schema.schema(group, name))
        if rows := options_table.plug_options(group, name):
            parts.append(options_table.table(["option"], rows, rules) + "\n")
        users = [f"[{paper}](/papers/{paper}.md)" for paper in papers.get((group, name), [])]
        parts.append(
            "Papers: " + (", ".join(users) if len(users) <= MANY else f"{len(users)} of them") + "\n"
            if users
            else "No paper names it.\n"
        )
        path = plugs.plug_path(group, name)
        parts.append(folded(f"opd_steps/{group}/{name}.py", verbatim(path.read_text(), "python")))
    parts += [
        "## A new one\n",
        f"One file `opd_steps/{group}/<name>.py`, a frozen dataclass that is based on `{protocol.name}`:\n",
    ]
    return "\n".join([*parts, verbatim(ast.unparse(protocol), "python")])


MANY = 12
"""Papers that are still listed by name."""
