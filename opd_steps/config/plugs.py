"""Plug points: a method's parts are found by name, one small file each, and their options are read without importing them.

A plug file holds exactly one dataclass; its fields are the options, its docstring the formula. A field `of: Any = plug(group)`
holds another plug: the file is a wrapper around it. Because the fields are read from the syntax tree, `snakemake -n` checks a
paper's options without importing torch, and a new file is a new option. Ranges and rules stand in it as well (config/ranges.py).
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
from dataclasses import field, make_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from opd_steps.errors import UserError

PACKAGE = Path(__file__).parents[1]
_TYPES = {"Any": Any, "Annotated": Annotated, "Literal": Literal, "list": list, "dict": dict}
_TYPES |= {"int": int, "float": float, "str": str, "bool": bool}


def plug(group: str, default: str | dict | None = None, many: bool = False) -> Any:
    """A dataclass field that names a plug of `group` (a folder below opd_steps, e.g. "objectives/signals")."""
    make = list if many else (lambda: {"name": default} if isinstance(default, str) else default)
    return field(default_factory=make, metadata={"plug": group, "many": many})


def plug_path(group: str, name: str) -> Path:
    return PACKAGE / group / f"{name}.py"


@cache
def names(group: str) -> tuple[str, ...]:
    return tuple(sorted(p.stem for p in (PACKAGE / group).glob("*.py") if not p.stem.startswith("_")))


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


@cache
def schema(group: str, name: str) -> type:
    """The options of a plug as a dataclass without behaviour, for typed merging."""
    fields: list[tuple] = [("name", str, name)]
    for node in class_def(group, name).body:
        if not isinstance(node, ast.AnnAssign) or "ClassVar" in ast.unparse(node.annotation):
            continue
        kind = eval(ast.unparse(node.annotation), {"__builtins__": {}}, {**_TYPES, "None": None})
        if node.value is None:
            fields.append((node.target.id, kind, "???"))
            continue
        value = node.value
        if isinstance(value, ast.Call) and ast.unparse(value.func) == "plug":
            fields.append((node.target.id, kind, plug(*map(ast.literal_eval, value.args))))
        elif isinstance(value, ast.Call):  # field(default_factory=lambda: <literal>) or field(default_factory=list)
            factory = next(k.value for k in value.keywords if k.arg == "default_factory")
            literal = (
                ast.literal_eval(factory.body) if isinstance(factory, ast.Lambda) else {"list": [], "dict": {}}[factory.id]
            )
            fields.append((node.target.id, kind, field(default_factory=lambda literal=literal: type(literal)(literal))))
        else:
            fields.append((node.target.id, kind, ast.literal_eval(value)))
    return make_dataclass(name, fields, namespace={"CHECKS": constant(group, name, "CHECKS", ())})


def check_name(group: str, name: str, where: str) -> None:
    if name not in names(group):
        near = difflib.get_close_matches(str(name), names(group), 1)
        hint = f" Did you mean: '{near[0]}'?" if near else ""
        raise UserError(where, f"no {group.rsplit('/', 1)[-1]} named '{name}'.{hint} Known: {', '.join(names(group))}")


def chain(options: dict) -> list[dict]:
    """Options of a plug and of the plugs that it wraps (`of`), outermost first."""
    return [options, *(chain(options["of"]) if "of" in options else [])]


def load(group: str, options: dict) -> Any:
    """Import a plug and build it from its (already checked) options `{"name": ..., **fields}`, with what it wraps."""
    module = importlib.import_module(".".join(("opd_steps", *group.split("/"), options["name"])))
    cls = getattr(module, class_def(group, options["name"]).name)
    inner = {f.name: f.metadata["plug"] for f in dataclasses.fields(schema(group, options["name"])) if "plug" in f.metadata}
    return cls(**{k: load(inner[k], v) if k in inner else v for k, v in options.items() if k != "name"})
