"""The options of plugs as their files declare them: what may stand in a config."""

from __future__ import annotations

import ast
import dataclasses
import difflib
from collections.abc import Iterator
from dataclasses import field, make_dataclass
from functools import cache
from typing import Annotated, Any, Literal

from opd_steps.config.plugs import PACKAGE, class_def, constant, items, literal, plug, plug_path
from opd_steps.errors import UserError

_TYPES = {"Any": Any, "Annotated": Annotated, "Literal": Literal, "list": list, "dict": dict}
_TYPES |= {"int": int, "float": float, "str": str, "bool": bool}


@cache
def names(group: str) -> tuple[str, ...]:
    return tuple(sorted(p.stem for p in (PACKAGE / group).glob("*.py") if not p.stem.startswith("_")))


@cache
def schema(group: str, name: str) -> type:
    """The options of a plug as a dataclass without behaviour, for typed merging."""
    fields: list[tuple] = [("name", str, name)]
    for node in class_def(group, name).body:
        if not isinstance(node, ast.AnnAssign) or "ClassVar" in ast.unparse(node.annotation):
            continue
        where, value = f"{plug_path(group, name)}: {ast.unparse(node.target)}", node.value
        kind = _kind(node.annotation, where)
        if value is None:
            fields.append((node.target.id, kind, "???"))
        elif isinstance(value, ast.Call) and ast.unparse(value.func) == "plug":
            said = {k.arg: literal(k.value, where) for k in value.keywords}
            fields.append((node.target.id, kind, plug(*(literal(arg, where) for arg in value.args), **said)))
        elif isinstance(value, ast.Call):
            made = _made(value, where)
            fields.append((node.target.id, kind, field(default_factory=lambda made=made: type(made)(made))))
        else:
            fields.append((node.target.id, kind, literal(value, where)))
    return make_dataclass(name, fields, namespace={"CHECKS": constant(group, name, "CHECKS")})


def _kind(annotation: ast.expr, where: str) -> Any:
    try:
        return eval(ast.unparse(annotation), {"__builtins__": {}}, {**_TYPES, "None": None})
    except (NameError, TypeError) as error:
        found = ast.unparse(annotation)
        raise UserError(where, f"expected a type made of {', '.join(_TYPES)}; found {found} ({error})") from None


def _made(call: ast.Call, where: str) -> Any:
    """What field(default_factory=lambda: <literal>) or field(default_factory=list) gives."""
    factory = next((k.value for k in call.keywords if k.arg == "default_factory"), None)
    empty = {"list": [], "dict": {}}
    if isinstance(factory, ast.Name) and factory.id in empty:
        return empty[factory.id]
    return literal(factory.body if isinstance(factory, ast.Lambda) else call, where)


def inside(group: str, options: dict, way: str = "") -> Iterator[tuple[str, str, dict]]:
    """(way, group, options) of a plug and of all that it holds, outermost first: "", ".of", ".of.maths"."""
    yield way, group, options
    for f in dataclasses.fields(schema(group, options["name"])):
        if "plug" in f.metadata:
            for step, item in items(f, options.get(f.name)):
                yield from inside(f.metadata["plug"], item, f"{way}.{f.name}{step}")


def check_name(group: str, name: str, where: str) -> None:
    if name not in names(group):
        near = difflib.get_close_matches(str(name), names(group), 1)
        hint = f" Did you mean: '{near[0]}'?" if near else ""
        raise UserError(where, f"no {group.rsplit('/', 1)[-1]} named '{name}'.{hint} Known: {', '.join(names(group))}")
