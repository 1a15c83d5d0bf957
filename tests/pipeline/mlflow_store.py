"""What an MLflow store holds, by node instead of by random ids, so that two stores can be compared."""

from __future__ import annotations

import re
import sqlite3
from collections import defaultdict
from pathlib import Path

from opd_steps.store.fingerprint import file_sha256

# What is seen of a run besides params, tags and metrics; without the times at which it was imported. The first column says of which run.
LINEAGE = {
    "data": "select i.destination_id, d.name, d.digest, d.dataset_source, d.dataset_profile, t.value from inputs i"
    " join datasets d on d.dataset_uuid = i.source_id join input_tags t on t.input_uuid = i.input_uuid",
    "models read": "select source_id, destination_id from inputs where source_type = 'RUN_INPUT'",
    "models made": "select source_id, destination_id, step from inputs where source_type = 'RUN_OUTPUT'",
    "models": "select source_run_id, model_id, name, artifact_location, model_type, status from logged_models",
    "model params": "select m.source_run_id, p.model_id, p.param_key, p.param_value from logged_model_params p"
    " join logged_models m on m.model_id = p.model_id",
    "model tags": "select m.source_run_id, t.model_id, t.tag_key, t.tag_value from logged_model_tags t"
    " join logged_models m on m.model_id = t.model_id",
    "measured": "select run_id, model_id, metric_name, metric_step, metric_value, dataset_name, dataset_digest from logged_model_metrics",
}


def named(database: sqlite3.Connection) -> dict[str, str]:
    """Every random id of the store -> what it is of."""
    nodes = dict(database.execute("select run_uuid, value from tags where key = 'opd.node'").fetchall())
    made = "select m.model_id, m.source_run_id, t.tag_value from logged_models m join logged_model_tags t on t.model_id = m.model_id"
    models = database.execute(f"{made} and t.tag_key = 'opd.part'").fetchall()
    return nodes | {model: f"model {part} of {nodes[run]}" for model, run, part in models}


def lineage(database: sqlite3.Connection) -> dict[str, list[tuple]]:
    """Rows of LINEAGE, with ids as they are."""
    return {what: database.execute(query).fetchall() for what, query in LINEAGE.items()}


def stored(results: Path, times: bool = True) -> dict[str, dict]:
    """All rows of results/mlflow.db and all files of mlartifacts, without the times at which claims were judged; one run for each node.

    `times`: also those at which jobs ran, which differ between two runs of the same jobs.
    """
    database = sqlite3.connect(results / "mlflow.db")
    query = lambda what: database.execute(f"select run_uuid, {what}").fetchall()
    nodes = dict(query("value from tags where key = 'opd.node'"))
    known = named(database)
    ids = re.compile("|".join(known))  # also within links
    plain = lambda value: ids.sub(lambda id: known[id[0]], str(value).replace(str(results), "<results>"))
    runs = query(f"name, status, lifecycle_stage{', start_time, end_time' if times else ''} from runs")
    assert len(runs) == len(nodes) == len(set(nodes.values()))
    found: dict[str, dict] = {nodes[r]: defaultdict(list, run=[tuple(row)]) for r, *row in runs}
    when = ", timestamp" if times else ""
    for table, columns in {"params": "key, value", "tags": "key, value", "metrics": f"key, value, step{when}"}.items():
        for run, key, value, *rest in query(f"{columns} from {table}"):
            found[nodes[run]][table].append((key, plain(value), *([] if key.startswith("claim/") else rest)))
    for what, rows in lineage(database).items():
        for run, *row in rows:
            found[nodes[run]][what].append(tuple(map(plain, row)))
    for content in found.values():
        for rows in content.values():
            rows.sort()
    views = database.execute("select key, value from experiment_tags").fetchall()
    database.close()
    for run, node in nodes.items():
        folder = results / "mlartifacts" / run / "artifacts"
        found[node]["files"] = {str(p.relative_to(folder)): file_sha256(p) for p in folder.rglob("*") if p.is_file()}
    found["experiment"] = {"tags": sorted(tuple(map(plain, row)) for row in views)}
    return {node: dict(content) for node, content in found.items()}
