"""The line of progress, fed with records as Snakemake logs them, and what is said of failed jobs."""

from __future__ import annotations

import io
import json
import logging
from collections import Counter

import pytest

pytest.importorskip("snakemake")

from snakemake_interface_logger_plugins.common import LogEvent

from opd_steps.graph.progress import LAST_LINES, Progress
from opd_steps.store import views


@pytest.fixture
def run(tmp_path):
    """Two evaluations took 30 s and 50 s before; of opd nothing is known."""
    for node, seconds in {"a": 30, "b": 50}.items():
        folder = tmp_path / "results/paper/evaluate" / node
        folder.mkdir(parents=True)
        (folder / "seed0.timing.json").write_text(json.dumps({"wall_s": seconds}))
    return Progress(tmp_path / "results", Counter(evaluate=4, opd=1), 2, io.StringIO())


def event(kind: LogEvent, **says) -> logging.LogRecord:
    return logging.makeLogRecord({"event": kind, **says})


def start(run: Progress, job: int, rule: str, node: str, now: float) -> None:
    run._take(event(LogEvent.JOB_INFO, jobid=job, rule_name=rule, rule_msg=f"{rule}: mine/{node} seed 0"), now)


def test_done_running_and_left(run):
    start(run, 1, "evaluate", "a", 100.0)
    start(run, 2, "evaluate", "b", 110.0)
    assert run.line(0, 120.0) == (
        "0 of 5 done; runs: evaluate: mine/a seed 0 (20 s), evaluate: mine/b seed 0 (10 s); about 1 min left, besides opd"
    )  # four of 40 s, 30 s of which are over, two at once
    run._take(event(LogEvent.JOB_FINISHED, job_id=1), 110.0)
    run._take(event(LogEvent.PROGRESS, done=1, total=5), 110.0)
    assert run.out.getvalue() == "distillery: 1 of 5 done; runs: evaluate: mine/b seed 0 (1 s); about 15 s left, besides opd\n"
    # this run's own 10 s go before the 40 s of earlier ones
    run._take(event(LogEvent.PROGRESS, done=2, total=5), 110.2)
    assert run.out.getvalue().count("\n") == 1  # not more than one line a second
    run._take(event(LogEvent.PROGRESS, done=5, total=5), 110.3)
    assert run.out.getvalue().splitlines()[-1].startswith("distillery: 5 of 5 done")


def test_a_failed_job_shows_the_end_of_its_log_and_is_named_again_at_the_end(run, tmp_path):
    log = tmp_path / "opd.log"
    log.write_text("".join(f"step {i}\n" for i in range(100)) + "\ndistillery: error: what went wrong\n")
    start(run, 3, "opd", "vopd", 0.0)
    run._take(event(LogEvent.JOB_ERROR, jobid=3, rule_name="opd", log=[str(log)]), 5.0)
    said = run.out.getvalue()
    assert "opd: mine/vopd seed 0: failed" in said and "opd.log, last lines:" in said
    assert said.splitlines()[-1].strip() == "distillery: error: what went wrong"
    assert "step 99" in said and f"step {100 - LAST_LINES}\n" not in said
    assert "1 failed" in run.line(1, 6.0)
    run.close_with(["MLflow: here"])
    assert f"opd: mine/vopd seed 0: failed: what went wrong  ({log})" in run.out.getvalue()
    assert run.out.getvalue().endswith("distillery: MLflow: here\n")


def test_nothing_here_stops_a_run(run, capsys):
    run.emit(event(LogEvent.JOB_FINISHED))  # lacks its field
    run.emit(event(LogEvent.JOB_ERROR, jobid=9, rule_name="opd", log=["gone.log"]))
    assert "gone.log: No such file" in run.out.getvalue()
    run.emit(logging.makeLogRecord({"msg": "no event"}))


def test_without_earlier_runs_nothing_is_promised(tmp_path):
    run = Progress(tmp_path, Counter(opd=2), 1, io.StringIO())
    assert run.line(0, 0.0) == "0 of 2 done"


def test_where_what_was_made_is_looked_at(tmp_path):
    assert views.addresses(tmp_path, "sqlite:///x.db") == []
    (tmp_path / "index.html").write_text("page")
    pages = {"": "#/all"} | {f"p{i}": f"#/p{i}" for i in range(9)}
    index = {"server": "http://127.0.0.1:5000/", "links": {"p0": {"says": "#/p0"}}, "pages": pages}
    (tmp_path / "mlflow.json").write_text(json.dumps(index))
    assert views.addresses(tmp_path, "postgresql://me:secret@host/db") == [
        f"report: {tmp_path}/index.html",
        "MLflow: mlflow ui --backend-store-uri postgresql://host/db, then",
        "MLflow, p0: http://127.0.0.1:5000/#/p0",
    ]
    index |= {"server": "http://here:80/", "links": {f"p{i}": {} for i in range(9)}}
    (tmp_path / "mlflow.json").write_text(json.dumps(index))
    assert views.addresses(tmp_path, "http://here:80")[1:] == ["MLflow, all papers: http://here:80/#/all"]
