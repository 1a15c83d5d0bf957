"""Columns beside verl's own, one behind the other as its rows are: what our trainer tells the workers of a step, and what they tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.chunk import Term

CONTEXT, ROUTE, SURVEY = "context:", ":route", "survey:"
_PARTS = ("scale", "member", "shift")


def nested(value_N: Tensor, length_B: Sequence[int] | Tensor) -> Tensor:
    """A column of all decisions as a row's decisions each."""
    rows = list(value_N.split([int(n) for n in length_B]))
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


def constants(each: Sequence[Term], length_B: Tensor) -> dict[str, Tensor]:
    """What the whole step makes of its decisions, for every term of the method: columns `term:<number>:<part>`."""
    found = {}
    for k, term in enumerate(each):
        for part in _PARTS:
            if (value_N := getattr(term, f"{part}_N")) is not None:
                found[f"term:{k}:{part}"] = nested(value_N.float(), length_B)
        found[f"term:{k}:tokens"] = torch.full((len(length_B),), term.tokens)
    return found


def terms(data: Mapping[str, Any], count: int) -> list[Term]:
    """The terms of some rows, again."""
    known = set(data.keys())
    part = lambda k, name: data[f"term:{k}:{name}"].values() if f"term:{k}:{name}" in known else None
    return [
        Term(part(k, "scale"), part(k, "member").bool(), part(k, "shift"), int(data[f"term:{k}:tokens"][0]))
        for k in range(count)
    ]


def prepared(rows: Trajectory) -> dict[str, Tensor]:
    """What teachers read in place of a row's prompt, columns `context:<teacher>`, and whom a row is routed to, `<teacher>:route`."""
    as_ids = lambda told: torch.nested.as_nested_tensor([torch.tensor(list(ids)) for ids in told], layout=torch.jagged)
    shown = {name: as_ids(told) for name, told in rows.extra.items() if name.startswith(CONTEXT)}
    return shown | {name: torch.tensor(told) for name, told in rows.extra.items() if name.endswith(ROUTE)}


def rows_of(data: Mapping[str, Any]) -> Trajectory:
    """verl's rows as ours, with what teachers read in their places."""
    actions = [row.long() for row in data["responses"].unbind()]
    whole = [row.tolist() for row in data["input_ids"].unbind()]
    prompts = [ids[: len(ids) - len(action)] for ids, action in zip(whole, actions, strict=True)]
    shown = {name: [ids.tolist() for ids in data[name].unbind()] for name in data.keys() if name.startswith(CONTEXT)}  # noqa: SIM118
    return Trajectory(prompts, actions, torch.arange(len(actions)), extra=shown)


def survey_column(term: int, plug: int, name: str) -> str:
    return f"{SURVEY}{term}:{plug}:{name}"


def surveyed(columns: Mapping[str, Tensor], length_B: Tensor, count: int) -> list[dict[tuple[int, str], Tensor]]:
    """What the workers' survey found, for each term by (plug, name), [N]. `columns`: nested over whole rows, each decision's value at the
    token before it."""
    found: list[dict] = [{} for _ in range(count)]
    for column, value in columns.items():
        term, plug, name = column.removeprefix(SURVEY).split(":", 2)
        parts = [row[len(row) - int(n) - 1 : len(row) - 1] for row, n in zip(value.unbind(), length_B, strict=True)]
        found[int(term)][int(plug), name] = torch.cat(parts).float()
    return found
