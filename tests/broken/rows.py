"""Broken JSONL data, and what the data step makes of it."""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hypothesis import strategies as st

from opd_steps.config.merge import merge
from opd_steps.graph.kinds import KINDS
from tests.broken.outcome import Outcome, outcome
from tests.broken.values import ODD, ODD_TEXTS, spoiled

ROWS = [
    {"prompt": f"What is {i}+{i}?\n", "answer": str(2 * i), "solution": f"{i}+{i} = {2 * i}\n#### {2 * i}"} for i in range(9)
]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS)
LITERALS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "9" * 5000,
    '"\\ud800"',
    '"\\u0000"',
    "[" * 5000,
    '{"a":' * 2000,
    "007",
    "0.1e-7",
    "true",
    "null",
    "[]",
    "{}",
    "''",
]
"""JSON, or what some writer takes for it."""


@dataclass(frozen=True)
class Rows:
    """`content` of data.jsonl; None for a folder in its place. `broken` ones must not be published."""

    what: str
    content: bytes | None
    broken: bool = False


def with_value(index: int, column: str, literal: str) -> bytes:
    """The file with a value written as it is."""
    rows = [json.dumps(row) for row in ROWS]
    rows[index] = json.dumps(ROWS[index] | {column: "@"}).replace('"@"', literal)
    return "\n".join(rows).encode()


def written(value: object) -> str:
    return json.dumps(value)


places = st.tuples(st.integers(0, len(ROWS) - 1), st.sampled_from(["prompt", "answer", "solution"]))
literals = st.one_of(st.sampled_from(LITERALS), ODD.map(written), st.sampled_from(ODD_TEXTS).map(written))
everything = st.one_of(
    st.tuples(places, literals).map(lambda x: Rows(f"line {x[0][0] + 1}: {x[0][1]}: {x[1][:40]}", with_value(*x[0], x[1]))),
    spoiled(TEXT).map(lambda data: Rows("text", data)),
    st.tuples(st.integers(0, len(ROWS) - 1), literals).map(
        lambda x: Rows(
            f"line {x[0] + 1} is {x[1][:40]}", "\n".join([*(json.dumps(r) for r in ROWS[: x[0]]), x[1]]).encode(), x[1] != "{}"
        )
    ),
    st.tuples(st.integers(0, len(ROWS) - 1), st.sampled_from(["prompt", "answer", "solution"])).map(
        lambda x: Rows(
            f"line {x[0] + 1} lacks {x[1]}",
            "\n".join(json.dumps({k: v for k, v in r.items() if (i, k) != x}) for i, r in enumerate(ROWS)).encode(),
            broken=True,
        )
    ),
    st.sampled_from(
        [
            Rows("empty", b"", True),
            Rows("blank lines", b"\n \n\n", True),
            Rows("a folder", None, True),
            Rows("one row", TEXT.split("\n")[0].encode(), False),
            Rows("a JSON list", json.dumps(ROWS).encode(), True),
            Rows("CSV", b"prompt,answer,solution\n1+1,2,2\n", True),
            Rows("gzip", b"\x1f\x8b\x08\x00" + bytes(range(60)), True),
        ]
    ),
)


def lay(folder: Path, rows: Rows) -> None:
    file = folder / "data.jsonl"
    file.mkdir() if rows.content is None else file.write_bytes(rows.content)


@cache
def warm() -> None:
    import opd_steps.steps.data
    import opd_steps.tasks.sources.jsonl
    import opd_steps.tasks.verifiers.numeric  # noqa: F401


def make(folder: Path, test: int = 2) -> Outcome:
    """The data step's command line on the file; its results are beside it."""
    warm()
    source = {"name": "jsonl", "path": str(folder / "data.jsonl"), "solution": "solution", "test": test}
    options = merge(KINDS["data"], {"kind": "data", "source": source}, "data")
    config = {
        "kind": "data",
        "options": {k: v for k, v in options.items() if k not in ("kind", "seed", "resources")},
        "parents": {},
        "seed": 0,
    }

    def work() -> None:
        from opd_steps.steps._main import main
        from opd_steps.steps.data import data

        sys.argv = ["data", "--config", json.dumps(config), "--out", str(folder / "results/p/data/d/seed0/manifest.json")]
        main(data)

    return outcome(folder, work)


def published(folder: Path) -> dict[str, list[dict]]:
    """Rows of each split, as later steps read them."""
    found = folder / "results/p/data/d/seed0"
    return {
        p.stem: [json.loads(line) for line in p.read_text(encoding="utf-8").split("\n") if line] for p in found.glob("*.jsonl")
    }


def examine(case: Rows) -> str:
    """What is wrong with how the case is met, else ""; what is published holds texts with something in them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay(folder, case)
        made = make(folder)
        if fault := made.fault(("data.jsonl",), case.broken):
            return fault
        if made.status == 0:
            empty = [
                row
                for rows in published(folder).values()
                for row in rows
                if not (row["prompt"].strip() and row["answer"].strip())
            ]
            return f"published {empty[0]}" if empty else ""
        return "refused, and published" if published(folder) else ""
