"""Writes docs/options.md: every option of every kind and plug, read from their files. `python -m tests.options_table`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Sequence
from pathlib import Path

from opd_steps.config import plug_schema, plugs, schema
from opd_steps.config.merge import dataclass_of
from opd_steps.graph import kinds

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/options.md"
HEAD = """<!-- Written by `python -m tests.options_table` from opd_steps/config and the plugs' files; a test compares. Edit those, not this. -->
# Options

Every key that config.yaml and a paper file may hold, with its type, default and range. All of it is checked when the config is
read, before anything runs; a mistake ends with one line that names the file and the key as it stands there.

- *range*: of a list, that of each of its numbers. *any*: any finite number; nothing is NaN or infinite. Rules on several
  options stand below the table.
- Files are YAML 1.2 in UTF-8: numbers are decimal, `true` and `false` truth values; `no`, `0100` and `24:00:00` are texts.
  A number where a text is expected is refused: put it in quotes.
- A plug is named by its name alone, `signal: jsd`, or with options, `signal: {name: jsd, beta: 0.1}`.
"""


def classes() -> dict[str, type]:
    """The dataclasses of config.yaml, paper files and kinds, and those that they hold, each once."""
    found: dict[str, type] = {}

    def visit(cls: type) -> None:
        if cls.__name__ not in found:
            found[cls.__name__] = cls
            for f in dataclasses.fields(cls):
                if inner := dataclass_of(cls, f):
                    visit(inner)

    for cls in (schema.Root, schema.Paper, *kinds.KINDS.values()):
        visit(cls)
    return found


def groups() -> list[str]:
    """The plug points, in the order in which the kinds name them; behind them those that plugs alone name."""
    named = lambda options: [f.metadata["plug"] for cls in options for f in dataclasses.fields(cls) if "plug" in f.metadata]
    found = list(dict.fromkeys(named(classes().values())))
    for group in found:  # which grows
        inner = named(plug_schema.schema(group, name) for name in plug_schema.names(group))
        found += [other for other in dict.fromkeys(inner) if other not in found]
    return found


def split(hint: object) -> tuple[object, str]:
    """(type, range) of an option; "" where it says none."""
    if typing.get_origin(hint) is typing.Annotated:
        return hint.__origin__, hint.__metadata__[0]
    return hint, ""


def page() -> str:
    title = {"Root": "config.yaml", "Paper": "A paper file"}
    title |= {cls.__name__: f"kind: {kind}" for kind, cls in kinds.KINDS.items()}
    parts = [HEAD]
    for name, cls in classes().items():
        parts.append(section(title.get(name, name), cls.__doc__.splitlines()[0], ["option"], options(cls), rules(cls)))
    for group in groups():
        rows, last = [], []
        for name in plug_schema.names(group):
            rows.append([f"**{name}**", "", "", "", "", says(group, name).splitlines()[0]])
            rows += [["", *row] for row in plug_options(group, name)]
            last += [f"{name}: {rule}" for rule in rules(plug_schema.schema(group, name))]
        parts.append(section(group, "", ["plug", "option"], rows, last))
    return "\n".join(parts)


def says(group: str, name: str) -> str:
    """The docstring of a plug."""
    return ast.get_docstring(plugs.class_def(group, name))


def options(cls: type) -> list[list[str]]:
    """A row for each option of a dataclass of config.yaml, a paper file or a kind."""
    notes = {
        k: v for base in reversed(cls.__mro__[:-1]) for k, v in comments(inspect.getsourcefile(base), base.__name__).items()
    }
    return [[f"`{f.name}`", *cells(cls, f, notes)] for f in dataclasses.fields(cls)]


def plug_options(group: str, name: str) -> list[list[str]]:
    """A row for each option of a plug."""
    cls, notes = plug_schema.schema(group, name), comments(plugs.plug_path(group, name), plugs.class_def(group, name).name)
    return [[f"`{f.name}`", *cells(cls, f, notes)] for f in dataclasses.fields(cls)[1:]]


def section(title: str, says: str, first: list[str], rows: list[list[str]], rules: Sequence[str]) -> str:
    lead = [says.replace("<", "&lt;") + "\n"] if says else []
    return "\n".join([f"## {title}\n", *lead, table(first, rows, rules), ""])


def table(first: list[str], rows: list[list[str]], rules: Sequence[str] = ()) -> str:
    """Options with what `rules` say of several: `first`, the heads of the columns that name them."""
    head = [*first, "type", "default", "range", "meaning"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in row) + " |" for row in rows]
    return "\n".join([*lines, *(["\nRules: " + "; ".join(f"`{rule}`" for rule in rules)] if rules else [])])


def rules(cls: type) -> tuple[str, ...]:
    return getattr(cls, "CHECKS", ())


def comments(path: str | Path, name: str) -> dict[str, str]:
    """The comment behind each field of a class."""
    text = Path(path).read_text()
    lines = text.splitlines()
    found = next(n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ClassDef) and n.name == name)
    fields = [n for n in found.body if isinstance(n, ast.AnnAssign)]
    spans = {n.target.id: "\n".join(lines[n.lineno - 1 : n.end_lineno]) for n in fields}
    return {field: span.partition("  # ")[2].partition("\n")[0] for field, span in spans.items()}


def cells(cls: type, f: dataclasses.Field, notes: dict[str, str]) -> list[str]:
    """Type, default, range and comment."""
    kind, words = split(typing.get_type_hints(cls, include_extras=True)[f.name])
    if "ref" in f.metadata:
        text = "a node: " + ", ".join(kind for kind, says in kinds.KINDS.items() if says.PRODUCES in f.metadata["ref"])
        text += ", or self" if f.metadata["own"] else ""
    elif "plug" in f.metadata:
        text = ("plugs: " if f.metadata["many"] else "plug: ") + f.metadata["plug"]
    else:
        text = spoken(kind)
    return [text, default(f), words, notes.get(f.name, "")]


def spoken(hint: object) -> str:
    origin, args = typing.get_origin(hint), [a for a in typing.get_args(hint) if a is not type(None)]
    if origin is typing.Literal:
        return ", ".join(f"`{a}`" for a in args)
    if origin in (typing.Union, types.UnionType):
        return f"{spoken(args[0])}, or null"
    if origin in (list, dict):
        return f"{'list of' if origin is list else 'mapping to'} {spoken(args[-1])}"
    names = {int: "whole number", float: "number", str: "text", bool: "truth value", typing.Any: "anything"}
    return names.get(hint) or hint.__name__


def default(f: dataclasses.Field) -> str:
    value = f.default if f.default is not dataclasses.MISSING else f.default_factory()
    if value in ("???", {"name": "???"}) or (value is None and "plug" in f.metadata):
        return "required"
    if dataclasses.is_dataclass(value):
        changed = {k: v for k, v in vars(value).items() if v != getattr(type(value)(), k)}
        return "`{" + ", ".join(f"{k}: {v}" for k, v in changed.items()) + "}`" if changed else ""
    if isinstance(value, dict) and "name" in value:
        return f"`{value['name']}`"
    return "" if value == "" else "`" + (json.dumps(value) if not isinstance(value, str) else value).replace('"', "") + "`"


if __name__ == "__main__":
    PAGE.write_text(page())
