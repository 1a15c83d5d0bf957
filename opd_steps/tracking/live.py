"""A training in MLflow while it runs: where config.yaml names a server, a thread of its own sends what metrics.jsonl says, and how fast
it is, which no file of a result does.

The file is the truth, and is read behind what the server has already. So a resumed training goes on in the run that it has there, no
point is sent twice, and a server that was away gets all of it when it is back. A step waits for nothing of this. The import of the
finished result (importer.py) makes the run that stays, and deletes this one.

What talks here is the standard library: MLflow's client takes seconds to import, and trainings' environments do not hold it.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from opd_steps.store.metrics import read_metrics

if TYPE_CHECKING:
    from opd_steps.findings.results import Result
    from opd_steps.store.artifacts import Job
    from opd_steps.tracking.runs import Runs

ADDRESS = "DISTILLERY_TRACKING"  # environment variable: JSON of config.yaml's `tracking`, set by the run for its jobs
TAG = "opd.live"
EVERY, PATIENCE = 10.0, 10.0  # seconds: between two looks at the file, and for an answer
MOST = 1000  # points that MLflow takes at once


@contextmanager
def live(job: Job) -> Iterator[None]:
    """Around a training's step; nothing where the tracking store is no server."""
    told = json.loads(os.environ.get(ADDRESS, "{}"))
    if not job.writes or not told.get("uri", "").startswith(("http://", "https://")):
        yield
        return
    sender, ended = _Sender(job, _Server(told["uri"]), told["experiment"]), "FAILED"
    try:
        yield
        ended = "FINISHED"
    except SystemExit:  # a signal: it will go on
        ended = "KILLED"
        raise
    finally:
        sender.end(ended)


class _Sender:
    def __init__(self, job: Job, server: _Server, experiment: str):
        self.job, self.server, self.experiment = job, server, experiment
        self.run, self.sent, self.problem, self.status = "", 0, "", "RUNNING"
        self.told = job.measured
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self.thread.start()

    def end(self, status: str) -> None:
        """Send what is left, if there is a server that answers."""
        self.status = status
        self.over.set()
        self.thread.join(0 if self.problem else PATIENCE)

    def _work(self) -> None:
        over = False
        while not over:
            over = self.over.wait(EVERY)
            self._try(over)

    def _try(self, over: bool) -> None:
        try:
            self._look(over)
            self.problem = ""
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            if not self.problem:
                said = "the training goes on; what it draws is sent when it answers"
                print(f"MLflow at {self.server.shown} takes nothing ({_line(error)}): {said}", flush=True)
            self.problem = str(error) or "no answer"

    def _look(self, over: bool) -> None:
        """`over`: the training ended before this look, which is the last."""
        if not self.run:
            self._find()
        file = self.job.work / "metrics.jsonl"
        rows = read_metrics(file if file.exists() else self.job.folder / "metrics.jsonl")
        for part in _parts([row for row in rows if row["step"] > self.sent]):
            self._send(part)
            self.sent = part[-1]["step"]
        if self.sent and (told := self.job.measured) is not self.told:
            figures = {f"system/{key}": value for key, value in told.items() if isinstance(value, int | float)}
            self._send([{"step": self.sent} | figures])
            self.told = told
        if over:
            self.server.ask("runs/update", {"run_id": self.run, "status": self.status, "end_time": int(time.time() * 1000)})

    def _send(self, rows: list[dict]) -> None:
        now = int(time.time() * 1000)
        points = [
            {"key": key, "value": value, "timestamp": now, "step": row["step"]}
            for row in rows
            for key, value in row.items()
            if key != "step"
        ]
        self.server.ask("runs/log-batch", {"run_id": self.run, "metrics": points})

    def _find(self) -> None:
        """The run that the server has of this training, and how far it is there; else a new one."""
        experiment = self.server.experiment(self.experiment)
        which = {"experiment_ids": [experiment], "filter": f"tags.`{TAG}` = '{self.job.work.name}'", "max_results": 1}
        if found := self.server.ask("runs/search", which).get("runs"):
            self.sent = max((int(point["step"]) for point in found[0]["data"].get("metrics", ())), default=0)
            self.server.ask("runs/update", {"run_id": found[0]["info"]["run_id"], "status": "RUNNING"})
            self.run = found[0]["info"]["run_id"]
            return
        paper, kind, node, seed = self.job.name.split("/")
        tags = {
            TAG: self.job.work.name,
            "opd.stage": kind,
            "opd.variant": f"{paper}/{node}",
            "mlflow.runName": f"live {node} {seed}",
        }
        new = {"experiment_id": experiment, "start_time": int(time.time() * 1000)}
        new["tags"] = [{"key": key, "value": value} for key, value in tags.items()]
        self.run = self.server.ask("runs/create", new)["run"]["info"]["run_id"]


class _Server:
    """MLflow's REST interface. Raises OSError for a server that is away or refuses, ValueError for one that is none of MLflow's."""

    def __init__(self, uri: str):
        parts = urlsplit(uri)
        place = parts.netloc.rpartition("@")[2]
        self.shown = urlunsplit((parts.scheme, place, "", "", ""))
        self.root = urlunsplit((parts.scheme, place, parts.path.rstrip("/") + "/api/2.0/mlflow/", "", ""))
        self.headers = {"Content-Type": "application/json"} | _login(parts.username, parts.password)

    def ask(self, what: str, said: dict | None = None) -> dict:
        data = None if said is None else json.dumps(said).encode()
        request = urllib.request.Request(self.root + what, data, self.headers)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.loads(answer.read() or b"{}")

    def experiment(self, name: str) -> str:
        try:
            found = self.ask(f"experiments/get-by-name?experiment_name={quote(name)}")
            return found["experiment"]["experiment_id"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
        return self.ask("experiments/create", {"name": name})["experiment_id"]


def _login(name: str | None, password: str | None) -> dict[str, str]:
    """As MLflow's own client: of the address, else of its environment variables."""
    if token := os.environ.get("MLFLOW_TRACKING_TOKEN"):
        return {"Authorization": f"Bearer {token}"}
    name, password = name or os.environ.get("MLFLOW_TRACKING_USERNAME"), password or os.environ.get("MLFLOW_TRACKING_PASSWORD")
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()} if name else {}


def _parts(rows: list[dict]) -> Iterator[list[dict]]:
    """Whole rows, as many as MLflow takes at once."""
    part, points = [], 0
    for row in rows:
        if part and points + len(row) - 1 > MOST:
            yield part
            part, points = [], 0
        part.append(row)
        points += len(row) - 1
    if part:
        yield part


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def retire(runs: Runs, results: Iterable[Result]) -> None:
    """Delete the live runs of results that have one of their own by now."""
    names = {f"{result.path.replace('/', '.')}-{result.manifest['fingerprint'][:12]}" for result in results}
    for run in list(runs.search(f"tags.`{TAG}` LIKE '%'")):
        if run.data.tags[TAG] in names:
            runs.client.delete_run(run.info.run_id)
