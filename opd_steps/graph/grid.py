"""Sweeps: a node with `grid: {path: values}` stands for one node for each combination of the values.

    opd_exact: {..., grid: {optim.lr: [1.0e-4, 1.0e-3], method.signal: {plain: rkl, forward: fkl}}}

makes opd_exact__lr_0_0001_plain, opd_exact__lr_0_0001_forward, ...: what a mapping names has that name, the rest is called by its
option and value. All else is as in any other node, so the variants share what they read.
"""

from __future__ import annotations

import re
from itertools import product
from typing import Any

from opd_steps.config.option_paths import parts
from opd_steps.config.scalars import shown
from opd_steps.errors import UserError

GRID = "grid"
_WANTED = "expected {option: [values]}, or {option: {name: value}}, e.g. {optim.lr: [1.0e-4, 1.0e-3]}"


def variants(name: str, grid: Any, where: str) -> dict[str, dict[str, Any]]:
    """Name of a variant -> option's path -> its value. Raises UserError, `where` being the place of the grid."""
    if not isinstance(grid, dict) or not grid:
        raise UserError(where, f"{_WANTED}; found {shown(grid)}")
    axes = [list(_axis(path, values, f"{where}.{path}").items()) for path, values in grid.items()]
    found: dict[str, dict[str, Any]] = {}
    for point in product(*axes):
        variant = "__".join([name, "_".join(label for label, _ in point)])
        if variant in found:
            raise UserError(where, f"two variants would be called '{variant}': name the values, {{option: {{name: value}}}}")
        found[variant] = dict(zip(grid, (value for _, value in point), strict=True))
    return found


def nested(point: dict[str, Any]) -> dict:
    """The same as options: {"optim": {"lr": 1e-4}}."""
    out: dict = {}
    for path, value in point.items():
        *way, last = parts(path)
        here = out
        for step in way:
            here = here.setdefault(step, {})
        here[last] = value
    return out


def _axis(path: Any, values: Any, where: str) -> dict[str, Any]:
    """Label -> value."""
    try:
        steps = parts(path)
    except (TypeError, ValueError):
        steps = []
    if not steps or not all(isinstance(step, str) for step in steps):
        raise UserError(where, "expected the path of an option, e.g. optim.lr; not of an entry of a list")
    if isinstance(values, dict) and values:
        named = {label: value for label, value in values.items() if re.fullmatch(r"\w+", str(label), re.ASCII)}
        if len(named) < len(values):
            raise UserError(where, f"a name is made of letters, digits and underscores; found {shown(list(values))}")
        return {str(label): value for label, value in named.items()}
    if not isinstance(values, list) or not values:
        raise UserError(where, f"{_WANTED}; found {shown(values)}")
    labels = [_label(steps[-1], value, where) for value in values]
    if len({*labels}) < len(labels):
        raise UserError(where, f"a value stands twice, or two look alike as names: {', '.join(labels)}")
    return dict(zip(labels, values, strict=True))


def _label(option: str, value: Any, where: str) -> str:
    """Texts are names of their own; numbers stand behind their option."""
    if isinstance(value, (dict, list)):
        raise UserError(where, "values that are mappings or lists need names: {option: {name: value}}")
    text = re.sub(r"\W+", "_", str(value), flags=re.ASCII).strip("_")
    return text if isinstance(value, str) and not re.match(r"[-+.\d]", value) else f"{option}_{text}"
