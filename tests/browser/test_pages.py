"""The report and the MLflow page, as a real browser shows them."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.browser.chrome import FLAGS, installed


@pytest.fixture(scope="module")
def chromium() -> str:
    return installed()


def dom(chromium: str, url: str, profile: Path, wait_ms: int = 3000) -> str:
    """The page's DOM after its scripts ran for `wait_ms` of the page's own time."""
    command = [chromium, *FLAGS, f"--user-data-dir={profile}", f"--virtual-time-budget={wait_ms}", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=180).stdout


def test_the_report_opens_offline_and_shows_what_was_run(finished, chromium, tmp_path):
    page = finished.folder / "results/report/index.html"
    text = dom(chromium, page.as_uri(), tmp_path)
    for part in ("Smoke", "opd_jsd", "lightning", "not enough evidence", "One seed"):
        assert part in text
    assert text.count("<svg") > 5
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//(?!arxiv\.org)""", page.read_text())


def test_the_mlflow_page_lists_the_runs(copy, chromium, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = f"sqlite:///{copy.folder}/results/mlflow.db"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--port", str(port), "--workers", "1"]
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=copy.folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=1)
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "server.log").read_text()[-2000:]
                time.sleep(0.5)
        for attempt in range(3):  # a busy machine may not have drawn the page yet
            text = dom(chromium, f"{address}/#/experiments/1/runs", tmp_path / f"profile{attempt}", 60000)
            if "matching runs" in text:
                break
        for part in ("distillery", "smoke", "matching runs"):
            assert part in text
        index = json.loads((copy.folder / "results/report/mlflow.json").read_text())["runs"]
        with sqlite3.connect(copy.folder / "results/mlflow.db") as database:
            query = "select value from tags where key = 'mlflow.note.content' and run_uuid = ?"
            ((note,),) = database.execute(query, (index["smoke"],)).fetchall()
            kinds = database.execute("select value from experiment_tags where key = 'mlflow.experimentKind'").fetchall()
        database.close()
        assert kinds == [("custom_model_development",)]
        link = re.search(r"Compare the evaluated models\]\((.*?)\)", note).group(1)
        for attempt in range(3):
            text = dom(chromium, f"{address}/{link}", tmp_path / f"compare{attempt}", 60000)
            if "Comparing" in text:
                break
        evaluations = [path for path in index if "/evaluate/" in path]
        assert f"Comparing {len(evaluations)} Runs" in text
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)
