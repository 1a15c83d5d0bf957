"""Typed merging: OmegaConf does the work, every mistake becomes one line that names file, key and what was expected."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from opd_steps.config import plugs
from opd_steps.errors import UserError


def merge(cls: type, value: Any, where: str, allow_missing: bool = False) -> dict:
    """`value` merged over the defaults of dataclass `cls` as plain data; plug fields are checked against their files.

    Raises UserError with `where` (file: key path) on unknown keys, wrong types and missing values.
    """
    if not isinstance(value, dict):
        raise UserError(where, f"expected keys of {cls.__name__}, found {type(value).__name__} {value!r}")
    _unknown(cls, value, where)
    try:
        node = OmegaConf.merge(OmegaConf.structured(cls), value)
        out = OmegaConf.to_container(node, resolve=True, enum_to_str=True)
        missing = sorted(OmegaConf.missing_keys(node))
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        text = re.sub(r"^Key '.*' not in '.*?'\.?", "unknown key.", str(error).split("\n")[0])
        raise UserError(f"{where}.{key}" if key else where, text) from None
    if missing and not allow_missing:
        raise UserError(f"{where}.{missing[0]}", "this key is required")
    return _fill_plugs(cls, out, where)


def _unknown(cls: type, value: dict, where: str) -> None:
    known = [f.name for f in dataclasses.fields(cls)]
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"Did you mean: '{near[0]}'?" if near else f"Known keys: {', '.join(known)}"
            raise UserError(f"{where}.{key}", f"unknown key. {hint}")


def _fill_plugs(cls: type, out: dict, where: str) -> dict:
    hints = {f.name: f for f in dataclasses.fields(cls)}
    for name, f in hints.items():
        group, value = f.metadata.get("plug"), out.get(name)
        at = f"{where}.{name}"
        if group and f.metadata["many"]:
            out[name] = [_plug(group, item, f"{at}[{i}]") for i, item in enumerate(value)]
        elif group:
            out[name] = _plug(group, value, at)
        elif isinstance(value, dict) and (inner := dataclass_of(cls, f)):
            out[name] = _fill_plugs(inner, value, at)
        elif isinstance(value, list) and (inner := dataclass_of(cls, f)):
            out[name] = [_fill_plugs(inner, item, f"{at}[{i}]") for i, item in enumerate(value)]
    return out


def dataclass_of(cls: type, f: dataclasses.Field) -> type | None:
    """The dataclass that a field holds, alone, optionally or in a list; None if it holds none."""
    hint = typing.get_type_hints(cls)[f.name]
    for candidate in (hint, *typing.get_args(hint)):
        if dataclasses.is_dataclass(candidate):
            return candidate
    return None


def _plug(group: str, value: Any, where: str) -> dict:
    if isinstance(value, str):  # `signal: jsd` is short for `signal: {name: jsd}`
        value = {"name": value}
    if not isinstance(value, dict) or "name" not in value:
        raise UserError(where, f"expected a name or {{name: ..., options}}, found {value!r}")
    plugs.check_name(group, value["name"], where)
    return merge(plugs.schema(group, value["name"]), value, where)


def deep_merge(base: dict, over: dict) -> dict:
    """`over` wins; dicts merge, all else is replaced. A plug that changes its name starts anew."""
    out = dict(base)
    for key, value in over.items():
        old = out.get(key)
        replaced = isinstance(value, dict) and isinstance(old, dict) and value.get("name", old.get("name")) != old.get("name")
        out[key] = deep_merge(old, value) if isinstance(value, dict) and isinstance(old, dict) and not replaced else value
    return out
