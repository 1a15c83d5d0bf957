"""A training in MLflow while it runs: all of its curves once, in one run, whatever becomes of the server or the training."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import pytest

from opd_steps.steps import opd
from opd_steps.tracking import live
from tests.unit.opd_toys import NODE, Killed, run, work

API = "/tracked/api/2.0/mlflow/"


class Server:
    """What of MLflow's REST interface a training talks to. `fails`: a status that it answers with instead."""

    def __init__(self):
        self.experiments, self.runs, self.fails, self.asked, self.headers = {}, {}, 0, Counter(), {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self, None)

            def do_POST(self):
                outer.answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.http.server_port}/tracked"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler, said: dict | None) -> None:
        place = urlsplit(handler.path)
        what = place.path.removeprefix(API)
        self.asked[what] += 1
        self.headers = dict(handler.headers)
        status, found = (self.fails, None) if self.fails else (200, self.found(what, said, parse_qs(place.query)))
        if found is None:
            status = status if self.fails else 404
        handler.send_response(status)
        handler.end_headers()
        handler.wfile.write(b"oops" if found is None else json.dumps(found).encode())

    def found(self, what: str, said: dict | None, query: dict) -> dict | None:
        match what:
            case "experiments/get-by-name":
                name = query["experiment_name"][0]
                return {"experiment": {"experiment_id": self.experiments[name]}} if name in self.experiments else None
            case "experiments/create":
                return {"experiment_id": self.experiments.setdefault(said["name"], str(len(self.experiments)))}
            case "runs/search":
                tag = said["filter"].rpartition("'")[0].rpartition("'")[2]
                of = [number for number, one in self.runs.items() if one["tags"][live.TAG] == tag]
                return {"runs": [self.shown(number) for number in of[:1]]} if of else {}
            case "runs/create":
                number = str(len(self.runs))
                self.runs[number] = {"tags": {t["key"]: t["value"] for t in said["tags"]}, "points": [], "states": []}
                return {"run": self.shown(number)}
            case "runs/update":
                self.runs[said["run_id"]]["states"].append(said["status"])
                return {}
            case "runs/log-batch":
                assert len(said["metrics"]) <= live.MOST
                self.runs[said["run_id"]]["points"] += [(m["step"], m["key"], m["value"]) for m in said["metrics"]]
                return {}

    def shown(self, number: str) -> dict:
        last = {key: {"key": key, "value": value, "step": step} for step, key, value in self.runs[number]["points"]}
        return {"info": {"run_id": number}, "data": {"metrics": list(last.values())}}


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def watched(monkeypatch):
    """watched(uri): trainings from now on are tracked there."""
    real = opd.run

    def wrapped(job):
        with live.live(job):
            real(job)

    def at(uri: str, patience: float = 60.0) -> None:
        monkeypatch.setenv(live.ADDRESS, json.dumps({"uri": uri, "experiment": "mine, too"}))
        monkeypatch.setattr(live, "EVERY", 0.01)
        monkeypatch.setattr(live, "PATIENCE", patience)
        monkeypatch.setattr(opd, "run", wrapped)

    return at


def drawn(metrics: bytes) -> list[tuple]:
    rows = [json.loads(line) for line in metrics.splitlines()]
    return sorted((row["step"], key, value) for row in rows for key, value in row.items() if key != "step")


def curves(one: dict) -> list[tuple]:
    """Points of a run, but for those of its speed."""
    return sorted(point for point in one["points"] if not point[1].startswith("system/"))


def test_all_curves_are_there_once(tmp_path, server, watched):
    plain = run(tmp_path / "plain")
    watched(server.uri)
    found = run(tmp_path / "seen")
    (one,) = server.runs.values()
    assert curves(one) == drawn(found.metrics) and one["states"] == ["FINISHED"]
    assert one["tags"]["opd.stage"] == "opd" and one["tags"]["mlflow.runName"] == "live toy seed3"
    assert list(server.experiments) == ["mine, too"]
    assert found.metrics == plain.metrics and found.manifest["files"] == plain.manifest["files"]
    assert not [thread for thread in threading.enumerate() if thread.name == "mlflow"]


def test_how_fast_it_is_stands_beside_them(tmp_path, server, watched):
    """What is measured is in no file of the result but timing.json; the last of it is that of the last step."""
    watched(server.uri)
    run(tmp_path)
    (one,) = server.runs.values()
    told = json.loads((tmp_path / f"{NODE}.timing.json").read_text())
    last = {key: (step, value) for step, key, value in one["points"] if key.startswith("system/")}
    assert last.keys() == {"system/steps", "system/tokens_per_s", "system/tflops_per_s"}
    assert all(found == (8, told[key.removeprefix("system/")]) for key, found in last.items())


def test_a_resumed_training_goes_on_in_its_run(tmp_path, server, watched):
    watched(server.uri)
    for kill_at in (4, 8):
        with pytest.raises(Killed):
            run(tmp_path, kill_at)
    with pytest.raises(SystemExit):
        run(tmp_path, stop_at=8)
    found = run(tmp_path)
    (one,) = server.runs.values()
    assert curves(one) == drawn(found.metrics)
    assert one["states"] == ["FAILED", "RUNNING", "FAILED", "RUNNING", "KILLED", "RUNNING", "FINISHED"]


def test_a_server_that_comes_late_gets_everything(tmp_path, server, watched, capsys, monkeypatch):
    watched(server.uri)
    server.fails = 503
    ended = live._Sender.end

    def end(self, status):
        deadline = time.monotonic() + 60
        while not self.problem and time.monotonic() < deadline:
            time.sleep(0.01)
        server.fails = 0
        while self.problem and time.monotonic() < deadline:
            time.sleep(0.01)
        ended(self, status)

    monkeypatch.setattr(live._Sender, "end", end)
    found = run(tmp_path)
    (one,) = server.runs.values()
    assert curves(one) == drawn(found.metrics)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("MLflow at")]
    assert said == [
        f"MLflow at {server.uri.removesuffix('/tracked')} takes nothing (HTTP Error 503: Service Unavailable): "
        "the training goes on; what it draws is sent when it answers"
    ]


@pytest.mark.parametrize("how", ["refuses", "hangs", "is none", "no name"])
def test_a_dead_server_stops_nothing(tmp_path, watched, server, capsys, how):
    with socket.create_server(("127.0.0.1", 0)) as mute:  # it takes connections, and says nothing
        at = f"http://127.0.0.1:{mute.getsockname()[1]}"
        if how == "refuses":
            mute.close()
        if how == "is none":
            server.found, at = lambda *_: ["no MLflow"], server.uri
        if how == "no name":
            at = "http://"
        watched(at, patience=0.2)
        found = run(tmp_path / "dead")
    said = capsys.readouterr().out.count("the training goes on")
    assert said == 1 or (how == "hangs" and said == 0)  # it may end before it has waited long enough
    assert len(found.metrics.splitlines()) == 8 and not list((tmp_path / "dead").glob(".work/*"))


def test_a_store_that_is_no_server_is_left_to_the_import(tmp_path, watched, monkeypatch):
    watched("sqlite:///results/mlflow.db")
    monkeypatch.setattr(live, "_Sender", None)  # nobody makes one
    run(tmp_path)


def test_who_is_asked_for(server, watched, monkeypatch):
    login = lambda uri: live._Server(uri).headers.get("Authorization")
    assert login("http://me:pw@there/x") == "Basic bWU6cHc=" and login("http://there") is None
    assert live._Server("https://me:pw@there:1/x/").root == "https://there:1/x/api/2.0/mlflow/"
    assert "pw" not in live._Server("http://me:pw@there/x").shown
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pw")
    assert login("http://there") == "Basic bWU6cHc="
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t")
    assert login("http://there") == "Bearer t"


def test_no_request_holds_more_than_mlflow_takes():
    rows = [{"step": step} | {f"train/{i}": 0.0 for i in range(300)} for step in range(1, 9)]
    assert [len(part) for part in live._parts(rows)] == [3, 3, 2]
    assert list(live._parts([])) == []


def test_a_finished_result_retires_its_live_run(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    from opd_steps.tracking.runs import Runs
    from opd_steps.tracking.store import connect

    assert mlflow
    with connect(f"sqlite:///{tmp_path}/mlflow.db", "x", tmp_path / "files") as (client, experiment):
        runs = Runs(client, experiment)
        mine, other, plain = (
            runs.create(0.0, tags) for tags in ({live.TAG: "p.opd.toy.seed3-abcdefabcdef"}, {live.TAG: "b"}, {})
        )
        live.retire(runs, [SimpleNamespace(path=NODE, manifest={"fingerprint": "abcdefabcdef0123"})])
        stages = [client.get_run(one).info.lifecycle_stage for one in (mine, other, plain)]
    assert stages == ["deleted", "active", "active"]


def test_the_name_of_a_live_run_is_that_of_the_work_directory(tmp_path):
    with pytest.raises(Killed):
        run(tmp_path, 2)
    assert work(tmp_path).name.startswith(NODE.replace("/", ".") + "-")
