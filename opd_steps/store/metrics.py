"""metrics.jsonl: one JSON object per training step; the curves of the report and of MLflow come from here."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from opd_steps.errors import NotFinite


def not_finite(values: dict[str, float]) -> str:
    """What is not finite among the values, a loss first: "train/loss is nan, train/entropy is inf"; "" where all is well."""
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    bad.sort(key=lambda name: name.rpartition("/")[2] != "loss")
    return ", ".join(f"{name} is {values[name]}" for name in bad[:3]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")


class MetricsLog:
    """Append-only log in a work directory.

    Rows hold `step` and finite floats, never times: two runs of one config write the same bytes. What nobody measured is left
    out by its name; a value that is not finite raises NotFinite.
    Opening at `resume_step` drops the rows after it, which a killed run may have written past its last checkpoint.
    """

    def __init__(self, path: Path, resume_step: int = 0):
        self.path = Path(path)
        kept = [row for row in read_metrics(self.path) if row["step"] <= resume_step]
        scratch = self.path.with_suffix(".tmp")
        scratch.write_text("".join(_line(row) for row in kept))
        os.replace(scratch, self.path)
        self._file = self.path.open("a")

    def append(self, step: int, values: dict[str, float]) -> None:
        if bad := not_finite(values):
            raise NotFinite(str(self.path), f"{bad} at step {step}")
        row = {"step": step} | {k: float(v) for k, v in sorted(values.items())}
        self._file.write(_line(row))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _line(row: dict) -> str:
    return json.dumps(row) + "\n"


def read_metrics(path: Path) -> list[dict]:
    """The rows of a metrics file; a torn last line (a kill in mid-write) is left out."""
    if not Path(path).exists():
        return []
    rows = []
    for line in Path(path).read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def summarise(rows: list[dict]) -> dict[str, float]:
    """`name` (mean of the last fifth of its rows), `name:first`, `name:mean`, `name:max` for every curve."""
    out: dict[str, float] = {}
    for name in sorted({k for row in rows for k in row} - {"step"}):
        values = [row[name] for row in rows if name in row]
        tail = values[-max(1, len(values) // 5) :]
        out[name] = sum(tail) / len(tail)
        out[f"{name}:first"] = values[0]
        out[f"{name}:mean"] = sum(values) / len(values)
        out[f"{name}:max"] = max(values)
    return out
