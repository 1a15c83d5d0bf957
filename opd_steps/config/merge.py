"""Typed merging over dataclasses: every mistake becomes one line that names file, key and what was expected.

OmegaConf interpolates the files. Its own structured merging takes 20 ms for each node: too slow for a thousand of them.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

from opd_steps.config import plug_schema
from opd_steps.config.plugs import items
from opd_steps.config.ranges import check, inside
from opd_steps.config.scalars import plain, scalar, shown, text_key
from opd_steps.errors import UserError

MISSING = "???"


def merge(cls: type, value: Any, where: str) -> dict:
    """`value` merged over the defaults of dataclass `cls` as plain data; plug fields are checked against their files.

    Texts that spell a number or a truth value become one (the command line has nothing but texts).
    Raises UserError with `where` (file: key path) on unknown keys, wrong types, values out of range, missing values, and
    where one of the class's CHECKS does not hold.
    """
    return _fill_plugs(cls, _over_defaults(cls, value, where), where)


def _over_defaults(cls: type, value: Any, where: str, base: Any = None) -> dict:
    if not isinstance(value, dict):
        raise UserError(where, f"expected keys of {cls.__name__}, found {shown(value)}")
    _unknown(cls, value, where)
    out, hints = {}, _hints(cls)
    for f in dataclasses.fields(cls):
        at, default = f"{where}.{f.name}", _default(f) if base is None else getattr(base, f.name)
        given = value.get(f.name, default)
        if isinstance(given, str) and given == MISSING:
            raise UserError(at, "this key is required")
        out[f.name] = typed(hints[f.name], given, at, default)
    for rule in getattr(cls, "CHECKS", ()):
        check(rule, out, where)
    return out


def typed(hint: Any, value: Any, where: str, default: Any = None) -> Any:
    """`value` as plain data of type `hint`; raises UserError. `default`: the values over which a dataclass in `hint` is merged."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return plain(value, where)
    if origin is typing.Annotated:
        return _in_range(typed(args[0], value, where), args[1], where, value)
    if origin in (typing.Union, types.UnionType):  # Optional
        inner = next(a for a in args if a is not type(None))
        return None if value is None else typed(inner, value, where, default)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            value, default = {}, value
        return _over_defaults(hint, value, where, default)
    if origin is typing.Literal:
        if value not in args or isinstance(value, bool) != any(isinstance(a, bool) for a in args):
            raise UserError(where, f"expected one of {', '.join(map(str, args))}, found {shown(value)}")
        return value
    if origin in (list, dict) or hint in (list, dict):
        return _container(origin or hint, args, value, where)
    return scalar(hint, value, where)


def _in_range(value: Any, words: str, where: str, given: Any) -> Any:
    """`given`: the value as it was written."""
    if isinstance(value, dict):
        held = [(f"{where}.{key}", value[key], given[key]) for key in value]
    elif isinstance(value, list):
        held = [(f"{where}[{i}]", *pair) for i, pair in enumerate(zip(value, given, strict=True))]
    else:
        held = [(where, value, given)]
    for at, number, written in held:
        if number is not None and not inside(number, words):
            raise UserError(at, f"expected {words}, found {shown(number if isinstance(written, str) else written)}")
    return value


def _container(kind: type, args: tuple, value: Any, where: str) -> list | dict:
    if not isinstance(value, kind):
        raise UserError(where, f"expected a {'list' if kind is list else 'mapping'}, found {shown(value)}")
    inner = args[-1] if args else Any
    if kind is list:
        return [typed(inner, item, f"{where}[{i}]") for i, item in enumerate(value)]
    return {text_key(name, where): typed(inner, item, f"{where}.{name}") for name, item in value.items()}


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _default(f: dataclasses.Field) -> Any:
    if f.default is not dataclasses.MISSING:
        return f.default
    return f.default_factory() if f.default_factory is not dataclasses.MISSING else MISSING


def _unknown(cls: type, value: dict, where: str) -> None:
    known = [f.name for f in dataclasses.fields(cls)]
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"Did you mean: '{near[0]}'?" if near else f"Known keys: {', '.join(known)}"
            raise UserError(f"{where}.{key}", f"unknown key. {hint}")


def _fill_plugs(cls: type, out: dict, where: str) -> dict:
    for f in dataclasses.fields(cls):
        group, value = f.metadata.get("plug"), out.get(f.name)
        at = f"{where}.{f.name}"
        if group and f.metadata["many"]:
            made = {way: _plug(group, item, f"{at}{way}") for way, item in items(f, value)}
            out[f.name] = dict(zip(value, made.values(), strict=True)) if isinstance(value, dict) else [*made.values()]
        elif group and not (value is None and f.metadata["optional"]):
            out[f.name] = _plug(group, value, at)
        for step, inner, item in held(cls, f, value):
            _fill_plugs(inner, item, f"{at}{step}")
    return out


def held(cls: type, f: dataclasses.Field, value: Any) -> Iterator[tuple[str, type, dict]]:
    """(way from the field, dataclass, its values) of the dataclasses that a field holds: "" of one, "[0]" in a list, ".x" in a mapping."""
    inner = None if "plug" in f.metadata or value is None else dataclass_of(cls, f)
    if inner is None:
        return
    if isinstance(value, list):
        yield from ((f"[{i}]", inner, item) for i, item in enumerate(value))
    elif typing.get_origin(_hints(cls)[f.name]) is dict:
        yield from ((f".{key}", inner, item) for key, item in value.items())
    else:
        yield "", inner, value


def dataclass_of(cls: type, f: dataclasses.Field) -> type | None:
    """The dataclass that a field holds, alone, optionally, in a list or in a mapping; None if it holds none."""
    hint = _hints(cls)[f.name]
    for candidate in (hint, *typing.get_args(hint)):
        if dataclasses.is_dataclass(candidate):
            return candidate
    return None


def _plug(group: str, value: Any, where: str) -> dict:
    if isinstance(value, str):  # `signal: jsd` is short for `signal: {name: jsd}`
        value = {"name": value}
    if not isinstance(value, dict) or "name" not in value:
        raise UserError(where, f"expected a name or {{name: ..., options}}, found {shown(value)}")
    if value["name"] == MISSING:
        raise UserError(where, "this key is required")
    plug_schema.check_name(group, value["name"], where)
    return merge(plug_schema.schema(group, value["name"]), value, where)


def deep_merge(base: dict, over: dict) -> dict:
    """`over` wins; dicts merge, all else is replaced. A plug that changes its name starts anew; options without a name are those of
    whatever plug is named over them."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        if isinstance(value, str) and isinstance(old, dict) and old and "name" not in old:
            value = {"name": value}
        both = isinstance(value, dict) and isinstance(old, dict)
        replaced = both and "name" in old and value.get("name", old["name"]) != old["name"]
        out[key] = deep_merge(old, value) if both and not replaced else value
    return out
