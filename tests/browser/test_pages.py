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
    wide = "--window-size=2000,1200"  # MLflow's table draws the columns that are in sight
    command = [chromium, *FLAGS, wide, f"--user-data-dir={profile}", f"--virtual-time-budget={wait_ms}", "--dump-dom", url]
    run = subprocess.run([*command, "--enable-logging=stderr"], capture_output=True, text=True, timeout=180)
    said = [line for line in run.stderr.splitlines() if "CONSOLE" in line and "file://" in line]
    assert not said, said  # by pages of ours; MLflow's own speak for themselves
    return run.stdout


def opened(chromium: str, url: str, profile: Path, *parts: str) -> str:
    """The DOM of an MLflow page once all of `parts` are in it; a busy machine may need several tries."""
    for attempt in range(3):
        text = dom(chromium, url, profile.with_name(f"{profile.name}{attempt}"), 60000)
        if all(part in text for part in parts):
            break
    for part in parts:
        assert part in text, f"{url} lacks {part}"
    return text


def test_the_report_opens_offline_and_shows_what_was_run(finished, chromium, tmp_path):
    page = finished.folder / "results/report/index.html"
    text = dom(chromium, page.as_uri(), tmp_path)
    for part in ("Smoke", "opd_jsd", "lightning", "not enough evidence", "One seed"):
        assert part in text
    assert text.count("<svg") > 5
    links = json.loads((finished.folder / "results/report/mlflow.json").read_text())["links"]["smoke"]
    for says, link in links.items():
        assert f'href="http://127.0.0.1:5000/{link.replace("&", "&amp;")}">{says}</a>' in text
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
        opened(chromium, f"{address}/#/experiments/1/runs", tmp_path / "runs", "distillery", "smoke", "matching runs")
        found = json.loads((copy.folder / "results/report/mlflow.json").read_text())
        index, links, page = found["runs"], found["links"]["smoke"], found["pages"]["smoke"]
        with sqlite3.connect(copy.folder / "results/mlflow.db") as database:
            kinds = database.execute("select value from experiment_tags where key = 'mlflow.experimentKind'").fetchall()
            read = database.execute("select name from datasets").fetchall()
        database.close()
        assert kinds == [("custom_model_development",)]
        evaluations = [path for path in index if "/evaluate/" in path]
        columns = page.replace("&compareRunsMode=CHART", "")
        opened(chromium, f"{address}/{columns}", tmp_path / "columns", "matching runs", read[0][0], "/models/m-")
        opened(
            chromium,
            f"{address}/{links['Compare the evaluated models']}",
            tmp_path / "compare",
            f"Comparing {len(evaluations)} Runs",
        )
        opened(chromium, f"{address}/{page}", tmp_path / "charts", "matching runs", "test/avg_at_k")
        opened(chromium, f"{address}/{found['pages']['']}", tmp_path / "papers", "matching run", "smoke", "opd.claims")
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)
