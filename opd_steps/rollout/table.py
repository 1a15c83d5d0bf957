"""The two tables between stages, as parquet: rollouts (what was sampled) and scores (what a teacher thinks of it)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from opd_steps.errors import UserError
from opd_steps.nouns.columns import Flat, columns_of, flatten, restore, trajectory_of
from opd_steps.nouns.trajectory import Trajectory

ROLLOUTS, SCORES = "rollouts.parquet", "scores.parquet"
_NAMES = {
    "prompt": ("prompt_B", "stack"),
    "context": ("contexts", "lists"),
    "tokens": ("actions", "tensors"),
    "logp": ("logp", "tensors"),
    "reward": ("reward_B", "stack"),
    "version": ("version_B", "stack"),
    "ended": ("ended_B", "stack"),
    "heard": ("heard", "tensors"),
    "stop": ("stop", "texts"),
}
"""Column of the file -> that of a trajectory, and its kind (nouns.columns) where the file does not say another one."""
_TOKENS = ("context", "tokens")  # ids, which 32 bits hold
_KIND = b"kind"  # key of a field's metadata


def write_rollouts(folder: Path, rows: Trajectory, row_ids: list[str], texts: list[str]) -> None:
    """One row a sample: row_id, prompt (index in its split), context and token ids (or whatever the policy acts on, and how), fp32
    log-probs, reward, version, ended, what others wrote between (if they did), the text from a stop string on (where there are such), text;
    and each column of `extra`, as `extra.<name>`, with its kind in the field's metadata.

    Raises UserError, naming the column, for one that cannot be kept.
    """
    columns, table = columns_of(rows), [(pa.field("row_id", pa.string()), pa.array(row_ids, pa.string()))]
    for name, (own, kind) in _NAMES.items():
        if own in columns:
            flat = flatten(own, columns.pop(own))
            array = _array(own, flat, narrow=name in _TOKENS)
            table.append((_field(name, array, flat.kind, kind), array))
    table.append((pa.field("text", pa.string()), pa.array(texts, pa.string())))
    for name, column in columns.items():
        flat = flatten(name, column)
        array = _array(name, flat)
        table.append((_field(name, array, flat.kind), array))
    names, arrays = zip(*table, strict=True)
    pq.write_table(pa.table(list(arrays), schema=pa.schema(list(names))), folder / ROLLOUTS)


def _field(name: str, array: pa.Array, kind: str, usual: str = "") -> pa.Field:
    return pa.field(name, array.type, metadata=None if kind == usual else {_KIND: kind})


def _array(name: str, flat: Flat, narrow: bool = False) -> pa.Array:
    """numbers and texts as they are; what has one dimension as a list; what has more as {shape, values}."""
    if flat.kind == "texts":
        return pa.array(flat.values, pa.string())
    values, shapes = flat.values, flat.shapes
    if flat.kind == "stack" and values.dim() > 1:
        shapes = torch.tensor(values.shape[1:]).expand(len(values), -1)
    if values.dtype == torch.bfloat16:
        raise UserError(f"column '{name}'", "cannot be written: a table knows no bfloat16; expected float32")
    if narrow and values.dtype == torch.int64:
        values = values.int()
    flat_values = pa.array(values.reshape(-1).numpy())
    if shapes is None:
        return flat_values
    lists = _lists(shapes.prod(-1), flat_values)
    if flat.kind != "stack" and shapes.shape[1] == 1:
        return lists
    sizes = _lists(torch.full((len(shapes),), shapes.shape[1]), pa.array(shapes.reshape(-1).int().numpy()))
    return pa.StructArray.from_arrays([sizes, lists], ["shape", "values"])


def _lists(lengths: torch.Tensor, values: pa.Array) -> pa.ListArray:
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).int().numpy()
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def read_rollouts(folder: Path) -> Trajectory:
    """The rollouts table as a trajectory; row order is the file's."""
    table = _read(folder / ROLLOUTS)
    columns = {}
    for field in table.schema:
        own, kind = _NAMES.get(field.name, (field.name, ""))
        kind = (field.metadata or {}).get(_KIND, kind.encode()).decode()
        if kind:
            flat = _flat(kind, table[field.name].combine_chunks())
            long = field.name in _TOKENS and flat.values.dtype == torch.int32
            columns[own] = restore(Flat(kind, flat.values.long(), flat.shapes) if long else flat)
    return trajectory_of(columns)


def read_texts(folder: Path) -> dict[int, list[str]]:
    """The texts of a rollouts table by prompt, in the file's order. No other column is read: no token, no log-prob."""
    found: dict[int, list[str]] = {}
    table = _read(folder / ROLLOUTS, ["prompt", "text"])
    for prompt, text in zip(*(table[name].to_pylist() for name in ("prompt", "text")), strict=True):
        found.setdefault(prompt, []).append(text)
    return found


def _flat(kind: str, array: pa.Array) -> Flat:
    if kind == "texts":
        return Flat(kind, array.to_pylist())
    shapes = None
    if pa.types.is_struct(array.type):
        sizes, array = array.field("shape"), array.field("values")
        shapes = _tensor(sizes.flatten()).long().view(len(array), -1)
    elif pa.types.is_list(array.type):
        shapes = _tensor(array.value_lengths()).long()[:, None]
    values = _tensor(array.flatten() if shapes is not None else array)
    if kind == "stack" and shapes is not None:
        return Flat(kind, values.view(len(array), *shapes[0].tolist()))
    return Flat(kind, values, shapes)


def _tensor(array: pa.Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array.to_numpy(zero_copy_only=False)))


def write_scores(folder: Path, logp: list, topk_ids: list | None = None, topk_logp: list | None = None) -> None:
    """Row for row beside a rollouts table: the teacher's log-prob of every token, and its k likeliest tokens where stored."""
    table = {"logp": pa.array([x.tolist() for x in logp], pa.list_(pa.float32()))}
    if topk_ids is not None:
        table["topk_ids"] = pa.array([x.tolist() for x in topk_ids], pa.list_(pa.list_(pa.int32())))
        table["topk_logp"] = pa.array([x.tolist() for x in topk_logp], pa.list_(pa.list_(pa.float32())))
    pq.write_table(pa.table(table), folder / SCORES)


def with_scores(rows: Trajectory, folder: Path, name: str = "teacher") -> Trajectory:
    """The rollouts with the columns that teachers.cached reads, by the teacher's name: <name>:logp [T], and <name>:topk_ids and
    <name>:topk_logp [T, k]."""
    table = _read(folder / SCORES)
    if table.num_rows != len(rows):
        raise UserError(str(folder / SCORES), f"{table.num_rows} scores for {len(rows)} rollouts")
    types = {"logp": torch.float32, "topk_ids": torch.long, "topk_logp": torch.float32}
    columns = {
        f"{name}:{column}": [torch.tensor(x, dtype=types[column]) for x in table[column].to_pylist()]
        for column in table.column_names
    }
    return rows.with_columns(extra=rows.extra | columns)


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(str(path), f"not a readable table: {error}") from None
