"""Params and points of a new run as rows of MLflow's own tables: one statement for all, where the client makes an object of each."""

from __future__ import annotations

from collections.abc import Iterable


def insert_rows(store, session, run: str, params: dict[str, str], points: Iterable[tuple[str, float, int, int]]) -> None:
    """Write the params and points (name, value, timestamp, step) of a run that has none yet, as `log_batch` does.

    `store`: MLflow's store of a database; `session`: an open transaction of it. A name's newest point is the one of the
    highest (step, timestamp, value). Raises MlflowException for a name that MLflow does not take.
    """
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name
    from sqlalchemy import insert

    values, newest = {}, {}
    for name, value, timestamp, step in points:
        is_nan, value = store.sanitize_metric_value(value)  # a database knows no nan and no infinity
        values[name, step, timestamp, value, is_nan] = None
        newest[name] = max(newest.get(name, (step, timestamp, value, is_nan)), (step, timestamp, value, is_nan))
    for name in newest:
        _validate_metric_name(name)
    for name in params:
        _validate_param_name(name)
    point = ("key", "step", "timestamp", "value", "is_nan")
    for table, columns, rows in (
        (SqlParam, ("key", "value"), params.items()),
        (SqlMetric, point, values),
        (SqlLatestMetric, point, [(name, *found) for name, found in newest.items()]),
    ):
        if rows:
            session.execute(
                insert(table.__table__), [{"run_uuid": run, **dict(zip(columns, row, strict=True))} for row in rows]
            )
