"""What an MLflow store holds, by node instead of by random run id, so that two stores can be compared."""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from pathlib import Path

from opd_steps.store.fingerprint import file_sha256


def stored(results: Path, times: bool = True) -> dict[str, dict]:
    """All rows of results/mlflow.db and all files of mlartifacts, without the times at which claims were judged; one run for each node.

    `times`: also those at which jobs ran, which differ between two runs of the same jobs.
    """
    database = sqlite3.connect(results / "mlflow.db")
    query = lambda what: database.execute(f"select run_uuid, {what}").fetchall()
    nodes = dict(query("value from tags where key = 'opd.node'"))
    ids = re.compile("|".join(nodes))  # also within links
    runs = query(f"name, status, lifecycle_stage{', start_time, end_time' if times else ''} from runs")
    assert len(runs) == len(nodes) == len(set(nodes.values()))
    found: dict[str, dict] = {nodes[r]: defaultdict(list, run=[tuple(row)]) for r, *row in runs}
    when = ", timestamp" if times else ""
    for table, columns in {"params": "key, value", "tags": "key, value", "metrics": f"key, value, step{when}"}.items():
        for run, key, value, *rest in query(f"{columns} from {table}"):
            value = ids.sub(lambda id: nodes[id[0]], str(value).replace(str(results), "<results>"))
            found[nodes[run]][table].append((key, value, *([] if key.startswith("claim/") else rest)))
        for content in found.values():
            content[table].sort()
    database.close()
    for run, node in nodes.items():
        folder = results / "mlartifacts" / run / "artifacts"
        found[node]["files"] = {str(p.relative_to(folder)): file_sha256(p) for p in folder.rglob("*") if p.is_file()}
    return {node: dict(content) for node, content in found.items()}
