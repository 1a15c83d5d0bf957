"""The MLflow store of config.yaml: opened carefully, because its own errors are long, late, or hang for minutes."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from opd_steps.errors import UserError

WHERE = "config.yaml.tracking.uri"
KIND = "mlflow.experimentKind"  # what MLflow shows an experiment as
MODEL_TRAINING = "custom_model_development"
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


@contextmanager
def connect(uri: str, experiment: str, artifacts: Path) -> Iterator[tuple[object, str]]:
    """(MlflowClient, experiment id); database and experiment are made when missing.

    `artifacts`: folder for artifacts where `uri` is a database; a server keeps its own.
    Raises UserError naming config.yaml's tracking.uri for a bad URI, a refused port, a full or read-only disk, also
    when one of these happens inside the `with` block.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not uri:
        raise UserError(WHERE, "expected sqlite:///PATH, postgresql://... or the http(s) address of a server, found nothing")
    local, postgres = uri.startswith("sqlite:"), uri.startswith("postgresql")
    if local:
        path = _check_sqlite(uri)
    from mlflow import MlflowClient  # seconds, and only once the environment is set
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # they print what they raise as well, with its traceback
    root = Path(artifacts).resolve().as_uri() if local or postgres else None
    try:
        if local:
            _make_tables(path, root)
        if postgres:
            _check_postgres(uri)
        client = MlflowClient(tracking_uri=uri)
        yield client, _experiment(client, experiment, root)
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        raise UserError(WHERE, _hide_password(f"{uri}: {_first_line(error)}")) from error


def _check_sqlite(uri: str) -> Path:
    """The database's path, its folder made; fails now where MLflow would retry: no permission, not a database, locked."""
    found = re.fullmatch(r"sqlite:///([^?]+)(\?.*)?", uri)
    if not found:
        raise UserError(WHERE, f"expected sqlite:///PATH, found {uri}")
    path = Path(found[1])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(path, timeout=20) as database:
            database.execute("BEGIN IMMEDIATE")
        database.close()
    except (OSError, sqlite3.Error) as error:
        raise UserError(WHERE, f"{uri}: cannot write this database: {error}") from None
    return path


def _check_postgres(uri: str) -> None:
    """Raises SQLAlchemyError now where MLflow would ask again for minutes, and ImportError without a driver."""
    from sqlalchemy import create_engine

    engine = create_engine(uri)
    engine.connect().close()
    engine.dispose()


def _make_tables(path: Path, artifacts: str) -> None:
    """Tables of a database that has none, made aside and renamed: MLflow cannot finish migrations that were cut off."""
    with sqlite3.connect(path) as database:
        made = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    database.close()
    if made:
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)
    SqlAlchemyStore(f"sqlite:///{aside}", artifacts).engine.dispose()
    os.replace(aside, path)


def _experiment(client, name: str, artifacts: str | None) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        return client.create_experiment(name, artifact_location=artifacts, tags={KIND: MODEL_TRAINING})
    if found.lifecycle_stage != "active":
        message = f"experiment '{name}' was deleted in this store; restore it there or choose another name"
        raise UserError("config.yaml.tracking.experiment", message)
    old = found.artifact_location.removeprefix("file://")
    if artifacts and found.artifact_location != artifacts and not Path(old).parent.exists():
        raise UserError(WHERE, f"this store keeps its artifacts in {old}, which is gone; delete the store or name another")
    if KIND not in found.tags:
        client.set_experiment_tag(found.experiment_id, KIND, MODEL_TRAINING)
    return found.experiment_id


def _first_line(error: Exception) -> str:
    """The reason the system gave, where there is one; else the first line of the message."""
    reason = re.search(r"\[Errno -?\d+\] [\w ,]+", str(error))
    text = str(error).strip().splitlines() or [type(error).__name__]
    return reason[0] if reason else text[0][:300]


def _hide_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)
