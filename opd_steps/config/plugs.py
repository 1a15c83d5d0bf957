"""Plug points: a method's parts are found by name, one small file each, and their options are read without importing them.

A plug file holds exactly one dataclass; its fields are the options, its docstring the formula. A field `of: Any = plug(group)`
holds another plug: the file is a wrapper around it. Because the fields are read from the syntax tree, `snakemake -n` checks a
paper's options without importing torch, and a new file is a new option. Ranges and rules stand in it as well (config/ranges.py).
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Any

from opd_steps.errors import UserError

PACKAGE = Path(__file__).parents[1]


def plug(group: str, default: str | dict | None = None, many: bool = False) -> Any:
    """A dataclass field that names a plug of `group` (a folder below opd_steps, e.g. "objectives/signals")."""
    make = list if many else (lambda: {"name": default} if isinstance(default, str) else default)
    return field(default_factory=make, metadata={"plug": group, "many": many})


def plug_path(group: str, name: str) -> Path:
    return PACKAGE / group / f"{name}.py"


@cache
def class_def(group: str, name: str) -> ast.ClassDef:
    tree = ast.parse(plug_path(group, name).read_text())
    found = [
        n for n in tree.body if isinstance(n, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in n.decorator_list)
    ]
    if len(found) != 1:
        raise UserError(str(plug_path(group, name)), f"a plug file holds exactly one dataclass, found {len(found)}")
    return found[0]


def constant(group: str, name: str, attribute: str, default: Any = None) -> Any:
    """A class-level literal of a plug (e.g. what it needs), read from the syntax tree."""
    for node in class_def(group, name).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == attribute and getattr(node, "value", None):
            return ast.literal_eval(node.value)
    return default


def chain(options: dict) -> list[dict]:
    """Options of a plug and of the plugs that it wraps (`of`), outermost first."""
    return [options, *(chain(options["of"]) if "of" in options else [])]


def load(group: str, options: dict) -> Any:
    """Import a plug and build it from its (already checked) options `{"name": ..., **fields}`, with what it wraps."""
    module = importlib.import_module(".".join(("opd_steps", *group.split("/"), options["name"])))
    cls = getattr(module, class_def(group, options["name"]).name)
    inner = {f.name: f.metadata["plug"] for f in dataclasses.fields(cls) if "plug" in f.metadata}
    return cls(**{k: load(inner[k], v) if k in inner else v for k, v in options.items() if k != "name"})
