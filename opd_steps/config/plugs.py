"""Plug points: a method's parts are found by name, one small file each, and their options are read without importing them.

A group is a folder; its `__init__.py` holds the group's Protocol, which lists every constant and method that is looked for.
A plug file holds exactly one dataclass, a subclass of that Protocol; its fields are the options, its docstring the formula. A
field `of: Any = plug(group)` holds another plug: the file is a wrapper around it. Because fields and constants are read from the
syntax tree, `snakemake -n` checks a paper's options without importing torch, and a new file is a new option. Ranges and rules
(CHECKS) stand in it as well (config/ranges.py).
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
from collections.abc import Callable, Iterator
from dataclasses import field
from functools import cache
from pathlib import Path
from typing import Any

from opd_steps.errors import UserError

PACKAGE = Path(__file__).parents[1]
OF_ALL = {"CHECKS": (), "OTHERS": {}, "UNCARRIED": ""}
"""Constants that a plug of any group may have: rules of its options; which of these name teachers that it asks, for what
({option: none | sampled | topk | full | hidden}, config/needs.py; "same": what it is asked itself); why the trainer verl does not
carry it, "" where it does (its group's Protocol says what holds for all that say nothing)."""
REQUIRED = object()
"""The value of a constant that a Protocol declares without one."""


def plug(
    group: str, default: str | dict | None = None, many: bool = False, optional: bool = False, by_name: bool = False
) -> Any:
    """A dataclass field that names a plug of `group` (a folder below opd_steps, e.g. "objectives/signals"); `optional`: or none; `many`:
    a list of them; `by_name`: a mapping of names to them."""
    one = lambda: {"name": default} if isinstance(default, str) else default
    make = dict if by_name else list if many else one
    return field(default_factory=make, metadata={"plug": group, "many": many or by_name, "optional": optional})


def items(f: dataclasses.Field, value: Any) -> Iterator[tuple[str, Any]]:
    """(way from the field, plug) of what a field of plugs holds: "" of one, "[0]" in a list, ".x" in a mapping."""
    if not f.metadata["many"]:
        yield from [] if value is None else [("", value)]
    elif isinstance(value, dict):
        yield from ((f".{name}", item) for name, item in value.items())
    else:
        yield from ((f"[{i}]", item) for i, item in enumerate(value))


def plug_path(group: str, name: str) -> Path:
    return PACKAGE / group / f"{name}.py"


def _one_class(path: Path, what: str, fits: Callable[[ast.ClassDef], bool]) -> ast.ClassDef:
    found = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef) and fits(n)]
    if len(found) != 1:
        raise UserError(str(path), f"expected exactly one {what}, found {len(found)}")
    return found[0]


@cache
def protocol_def(group: str) -> ast.ClassDef:
    """The Protocol of a group. Raises UserError unless there is one."""
    return _one_class(
        PACKAGE / group / "__init__.py",
        "Protocol, which lists what a plug of this group has",
        lambda c: "Protocol" in map(ast.unparse, c.bases),
    )


def _protocol_at(group: str) -> str:
    return f"{protocol_def(group).name} in opd_steps/{group}/__init__.py"


@cache
def class_def(group: str, name: str) -> ast.ClassDef:
    """The dataclass of a plug. Raises UserError unless there is one that is based on the group's Protocol, or on another plug,
    and has the methods that the Protocol requires."""
    path, protocol = plug_path(group, name), protocol_def(group)
    found = _one_class(path, "dataclass", lambda c: any("dataclass" in ast.unparse(d) for d in c.decorator_list))
    if not found.bases:
        raise UserError(f"{path}: class {found.name}", f"expected a subclass of {_protocol_at(group)}")
    if protocol.name in map(ast.unparse, found.bases) and (lacking := _methods(protocol, "abstractmethod") - _methods(found)):
        raise UserError(f"{path}: class {found.name}", f"lacks {', '.join(sorted(lacking))}: see {_protocol_at(group)}")
    return found


def _methods(cls: ast.ClassDef, decorator: str | None = None) -> set[str]:
    found = [n for n in cls.body if isinstance(n, ast.FunctionDef)]
    return {n.name for n in found if decorator is None or decorator in map(ast.unparse, n.decorator_list)}


def literal(node: ast.expr, where: str) -> Any:
    """The value of an expression. Raises UserError, naming `where`, for one that only running the file could tell."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise UserError(where, f"expected a literal, for plugs are read and not run; found {ast.unparse(node)}") from None


def _literals(cls: ast.ClassDef, path: Path) -> dict[str, Any]:
    """What stands in a class beside its fields, by name; REQUIRED where it has no value."""
    found = {}
    for node in cls.body:
        if isinstance(node, ast.Assign) or (isinstance(node, ast.AnnAssign) and "ClassVar" in ast.unparse(node.annotation)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            name = ast.unparse(target)
            found[name] = literal(node.value, f"{path}: {name}") if node.value else REQUIRED
    return found


@cache
def declared(group: str) -> dict[str, Any]:
    """The constants that the Protocol of a group knows, with their defaults, or REQUIRED."""
    return OF_ALL | _literals(protocol_def(group), PACKAGE / group / "__init__.py")


@cache
def constants(group: str, name: str) -> dict[str, Any]:
    """The class-level literals of a plug by name (e.g. what it needs): its own, else its Protocol's.

    Raises UserError for one that the Protocol does not know, and for one that it requires and the plug lacks.
    """
    own, known = _literals(class_def(group, name), plug_path(group, name)), declared(group)
    where = str(plug_path(group, name))
    if wrong := [attribute for attribute in own if attribute not in known]:
        raise UserError(
            f"{where}: {wrong[0]}", f"no such constant in {_protocol_at(group)}; it knows {', '.join(sorted(known))}"
        )
    found = known | own
    if lacking := [attribute for attribute, value in found.items() if value is REQUIRED]:
        raise UserError(f"{where}: {lacking[0]}", f"this constant is required: see {_protocol_at(group)}")
    return found


def constant(group: str, name: str, attribute: str) -> Any:
    """One of a plug's constants. KeyError for one that its group's Protocol does not know."""
    return constants(group, name)[attribute]


def chain(options: dict) -> list[dict]:
    """Options of a plug and of the plugs that it wraps (`of`), outermost first."""
    inner = options.get("of", {})
    return [options, *(chain(inner) if isinstance(inner.get("name"), str) else [])]


def load(group: str, options: dict) -> Any:
    """Import a plug and build it from its (already checked) options `{"name": ..., **fields}`, with what it wraps."""
    module = importlib.import_module(".".join(("opd_steps", *group.split("/"), options["name"])))
    cls = getattr(module, class_def(group, options["name"]).name)
    groups = {f.name: f.metadata for f in dataclasses.fields(cls) if "plug" in f.metadata}

    def built(key: str, value: Any) -> Any:
        if key not in groups:
            return value
        make = lambda item: load(groups[key]["plug"], item)
        if not groups[key]["many"]:
            return make(value)
        return {k: make(item) for k, item in value.items()} if isinstance(value, dict) else [make(item) for item in value]

    return cls(**{key: built(key, value) for key, value in options.items() if key != "name"})
