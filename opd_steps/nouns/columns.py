"""Columns of a batch as flat arrays, for files and checkpoints: each comes back as it was, in type, shape and to the bit.

A column has an entry a row: numbers, texts, lists of numbers (token ids), tensors of any shape with one number of dimensions, or dicts
of these with the same keys in all rows (an image beside a question); or it is one tensor [B, ...].
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from opd_steps.errors import UserError
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.trajectory import Trajectory

_KEY = re.compile(r"(.+)\{(.+)\}")
NUMBERS = {bool: torch.bool, int: torch.int64, float: torch.float64}
_KNOWN = "a tensor, or for each row a number, a text, a list of numbers, or a tensor, of one type in all rows"


@dataclass(frozen=True)
class Flat:
    """kind      stack (one tensor [B, ...]), tensors, lists, numbers, texts
    values    all entries one behind the other, [n]; a stack as it is; texts as a list
    shapes    [B, dimensions] of tensors and lists
    """

    kind: str
    values: Tensor | list[str]
    shapes: Tensor | None = None


def flatten(name: str, column: Any) -> Flat:
    """Raises UserError, naming the column, for what it cannot give back."""
    if isinstance(column, Tensor):
        return Flat("stack", column)
    rows = list(column)
    kinds = {type(row) for row in rows}
    if kinds <= {str}:  # also what has no rows, and no type
        return Flat("texts", rows)
    if len(kinds) == 1 and kinds <= NUMBERS.keys():
        return Flat("numbers", torch.tensor(rows, dtype=NUMBERS[kinds.pop()]))
    if rows and all(isinstance(row, Tensor) for row in rows) and len({(row.dtype, row.dim()) for row in rows}) == 1:
        shapes = torch.tensor([row.shape for row in rows], dtype=torch.int64).view(len(rows), rows[0].dim())
        return Flat("tensors", torch.cat([row.reshape(-1) for row in rows]), shapes)
    inner = {type(item) for row in rows if isinstance(row, list) for item in row}
    if kinds == {list} and len(inner) <= 1 and inner <= NUMBERS.keys():
        values = torch.tensor([item for row in rows for item in row], dtype=NUMBERS[next(iter(inner), int)])
        return Flat("lists", values, torch.tensor([[len(row)] for row in rows]))
    found = ", ".join(sorted({kind.__name__ for kind in kinds}))
    raise UserError(f"column '{name}'", f"cannot be kept: found {found}; expected {_KNOWN}")


def restore(flat: Flat) -> Any:
    if flat.kind in ("stack", "texts"):
        return flat.values
    if flat.kind == "numbers":
        return flat.values.tolist()
    parts = flat.values.split(flat.shapes.prod(-1).tolist())
    if flat.kind == "lists":
        return [part.tolist() for part in parts]
    return [part.reshape(shape) for part, shape in zip(parts, flat.shapes.tolist(), strict=True)]


def columns_of(rows: Trajectory) -> dict[str, Any]:
    """All columns by name, those that are there; of `extra` as `extra.<name>`; of dicts as `<name>{<key>}`, a column a key."""
    found = {f.name: getattr(rows, f.name) for f in fields(rows) if f.name != "extra"}
    return _apart({name: column for name, column in found.items() if column is not None} | _under("extra", rows.extra))


def trajectory_of(columns: Mapping[str, Any]) -> Trajectory:
    columns = _together(columns)
    plain = {name: column for name, column in columns.items() if not name.startswith("extra.")}
    return Trajectory(**plain, extra=_below("extra", columns))


def pack(batch: Batch) -> dict:
    """A batch as tensors and JSON-able values, by name."""
    packed, kinds, texts = {}, {}, {}
    for name, column in (columns_of(batch.rows) | _under("columns", batch.columns)).items():
        flat = flatten(name, column)
        kinds[name] = flat.kind
        if flat.kind == "texts":
            texts[name] = flat.values
            continue
        packed[f"values.{name}"] = flat.values
        if flat.shapes is not None:
            packed[f"shapes.{name}"] = flat.shapes
    return packed | {"kinds": kinds, "texts": texts, "metrics": batch.metrics}


def unpack(packed: Mapping) -> Batch:
    columns = {
        name: restore(
            Flat(kind, packed["texts"][name] if kind == "texts" else packed[f"values.{name}"], packed.get(f"shapes.{name}"))
        )
        for name, kind in packed["kinds"].items()
    }
    own = _below("columns", columns)
    rows = {name: column for name, column in columns.items() if not name.startswith("columns.")}
    return Batch(trajectory_of(rows), own, packed["metrics"])


def _apart(columns: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, column in columns.items():
        dicts = not isinstance(column, Tensor) and len(column) and all(isinstance(row, dict) for row in column)
        if dicts and len({frozenset(row) for row in column}) == 1:
            found |= {f"{name}{{{key}}}": [row[key] for row in column] for key in column[0]}
        else:
            found[name] = column
    return found


def _together(columns: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, column in columns.items():
        if part := _KEY.fullmatch(name):
            rows = found.setdefault(part[1], [{} for _ in range(len(column))])
            for row, value in zip(rows, column, strict=True):
                row[part[2]] = value
        else:
            found[name] = column
    return found


def _under(group: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{group}.{name}": column for name, column in columns.items()}


def _below(group: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(f"{group}."): column for name, column in columns.items() if name.startswith(f"{group}.")}
