"""The two tables between stages, as parquet: rollouts (what was sampled) and scores (what a teacher thinks of it)."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from opd_steps.errors import UserError
from opd_steps.nouns.trajectory import Trajectory

ROLLOUTS, SCORES = "rollouts.parquet", "scores.parquet"


def write_rollouts(folder: Path, rows: Trajectory, row_ids: list[str], texts: list[str]) -> None:
    """One row a sample: row_id, prompt (index in its split), context and token ids, fp32 log-probs, reward, version, ended, text."""
    table = {
        "row_id": pa.array(row_ids, pa.string()),
        "prompt": pa.array(rows.prompt_B.tolist(), pa.int64()),
        "context": pa.array(list(rows.contexts), pa.list_(pa.int32())),
        "tokens": pa.array([a.tolist() for a in rows.actions], pa.list_(pa.int32())),
        "logp": pa.array([x.tolist() for x in rows.logp], pa.list_(pa.float32())),
        "reward": pa.array(rows.reward_B.tolist(), pa.float32()),
        "version": pa.array(rows.version_B.tolist(), pa.int64()),
        "ended": pa.array(rows.ended_B.tolist(), pa.bool_()),
        "text": pa.array(texts, pa.string()),
    }
    pq.write_table(pa.table(table), folder / ROLLOUTS)


def read_rollouts(folder: Path) -> Trajectory:
    """The rollouts table as a trajectory; row order is the file's."""
    table = _read(folder / ROLLOUTS)
    tensors = lambda name, dtype: [torch.tensor(x, dtype=dtype) for x in table[name].to_pylist()]
    return Trajectory(
        table["context"].to_pylist(),
        tensors("tokens", torch.long),
        torch.tensor(table["prompt"].to_pylist()),
        tensors("logp", torch.float32),
        torch.tensor(table["reward"].to_pylist()),
        torch.tensor(table["version"].to_pylist()),
        torch.tensor(table["ended"].to_pylist()),
    )


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


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(str(path), f"not a readable table: {error}") from None
