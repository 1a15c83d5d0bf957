"""The MLflow import on a real sqlite store: complete, idempotent, finished after a kill, clear when it cannot be done."""

from __future__ import annotations

import json
import math
import re
import sqlite3
import sys
from urllib.parse import unquote

import pytest

pytest.importorskip("mlflow")

from opd_steps.errors import UserError
from opd_steps.findings.results import Plan
from opd_steps.steps import track
from opd_steps.store.fingerprint import digest
from opd_steps.tracking import content, store
from opd_steps.tracking.importer import import_results
from opd_steps.tracking.runs import Runs
from tests.pipeline.mlflow_store import lineage, named
from tests.unit.fake_results import STEPS, FakeResults, with_figure

TABLES = ("runs", "params", "metrics", "latest_metrics", "tags", "experiments", "experiment_tags")
ARTIFACTS = {"manifest.json", "config.json", "metrics.jsonl", "curves.svg"}
POINT = "key, value, timestamp, step, is_nan"


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """A migrated database without runs; making one takes seconds."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    with store.connect(f"sqlite:///{path}", "unused", path.parent / "a"):
        pass
    return path.read_bytes()


@pytest.fixture
def fake(tmp_path, empty_store):
    fake = FakeResults(tmp_path, seeds=(0, 1))
    (fake.root / "mlflow.db").write_bytes(empty_store)
    return fake


def imported(fake: FakeResults) -> dict[str, str]:
    return import_results(Plan.read(fake.plan_file, fake.root))["runs"]


def dump(fake: FakeResults, by_node: bool = False) -> dict[str, list[tuple]]:
    """Every row of the store; `by_node` replaces random ids by what they are of, and drops what names runs alone."""
    with sqlite3.connect(fake.root / "mlflow.db") as db:
        rows = {table: sorted(db.execute(f"select * from {table}").fetchall(), key=repr) for table in TABLES}
        rows |= {what: sorted(found, key=repr) for what, found in lineage(db).items()}
        nodes = named(db)
    db.close()
    if by_node:
        ids = re.compile("|".join(nodes) or "$.")
        known = lambda v: ids.sub(lambda found: nodes[found[0]], v) if isinstance(v, str) else v
        rows = {
            t: [tuple(known(v) for v in row) for row in found] for t, found in rows.items() if t not in ("runs", "experiments")
        }
        rows = {t: sorted((r for r in found if not any("claim/" in str(v) for v in r)), key=repr) for t, found in rows.items()}
    return rows


def client(fake: FakeResults):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=fake.plan["root"]["tracking"]["uri"])


def run_of(fake: FakeResults, run_id: str):
    return client(fake).get_run(run_id)


def test_what_a_run_holds(fake):
    index = imported(fake)
    assert set(index) == {*fake.fingerprints, "quickstart", "vopd"}
    run = run_of(fake, index["vopd/opd/vopd/seed1"])
    tags = run.data.tags
    assert (tags["mlflow.runName"], tags["mlflow.parentRunId"]) == ("vopd seed1", index["vopd"])
    assert (tags["opd.paper"], tags["opd.stage"], tags["opd.variant"], tags["opd.seed"]) == ("vopd", "opd", "vopd", "1")
    assert (tags["opd.axis.slot"], tags["opd.scale"], tags["opd.uncommitted"]) == ("post-sft", "tiny", "true")
    assert tags["mlflow.source.git.commit"] == "0123456789abcdef0123456789abcdef01234567"
    assert tags["opd.fingerprint"] == fake.fingerprints["vopd/opd/vopd/seed1"]
    assert json.loads(tags["opd.parents"])["teacher"] == digest(fake.fingerprints["quickstart/rl/teacher/seed1"])
    assert tags["model.path"].endswith("vopd/opd/vopd/seed1/model") and len(tags["model.sha256"]) == 64
    assert run.data.params["method.baseline.name"] == "neg_kl" and run.data.params["optim.betas"] == "[0.9, 0.95]"
    assert run.data.params["teacher"] == "quickstart/rl/teacher"
    assert {"train/reward", "train/reward:tail", "train/reward:max"} <= set(run.data.metrics)
    assert (run.info.status, run.info.start_time, run.info.end_time) == ("FINISHED", 1_700_000_001_000, 1_700_000_033_000)
    folder = fake.root / "mlartifacts" / run.info.run_id / "artifacts"
    assert {p.name for p in folder.iterdir()} == ARTIFACTS
    curve = [row for row in dump(fake)["metrics"] if run.info.run_id in row and "train/reward" in row]
    assert len(curve) == STEPS
    evaluation = run_of(fake, index["quickstart/evaluate/opd/seed0"])
    assert evaluation.data.tags["mlflow.parentRunId"] == index["quickstart"]
    for file in ("tables/test.json", "pictures/test.png", "films/test.html"):
        assert (fake.root / "mlartifacts" / evaluation.info.run_id / "artifacts" / file).exists()
    paper = run_of(fake, index["vopd"])
    note = paper.data.tags["mlflow.note.content"]
    assert "https://arxiv.org/abs/2605.07865" in note and "1 not measured" in note
    models, curves = (json.loads(unquote(found)) for found in re.findall(r"#/compare-runs\?runs=(.*?)&", note))
    assert index["vopd/evaluate/vopd/seed0"] in models and index["vopd/opd/vopd/seed0"] in curves
    assert not {*models} & {*curves}
    assert paper.data.tags["opd.claim.missing"] == "not measured" and "claim/baseline/effect" in paper.data.metrics
    assert {"claims.csv", "claims.json", "plan.json"} == {
        p.name for p in (fake.root / "mlartifacts" / paper.info.run_id / "artifacts").iterdir()
    }


def test_what_a_run_reads_and_makes(fake):
    index = imported(fake)
    path = "vopd/opd/vopd/seed1"
    training, evaluation = run_of(fake, index[path]), run_of(fake, index["vopd/evaluate/vopd/seed1"])
    read = {one.dataset.name: one.dataset.digest for one in training.inputs.dataset_inputs}
    assert read == {"quickstart/sums": digest(fake.fingerprints["quickstart/data/sums/seed0"])[:12]}
    assert training.data.tags["mlflow.source.name"] == "opd_steps/steps/opd.py"
    (made,) = training.outputs.model_outputs
    (measured,) = evaluation.inputs.model_inputs
    assert made.model_id == measured.model_id and made.step == STEPS
    assert evaluation.data.tags["mlflow.runType"] == "evaluation"  # its parent is open in MLflow's list
    model = client(fake).get_logged_model(made.model_id)
    assert (model.name, model.model_type, model.status, model.source_run_id) == ("vopd seed1", "opd", "READY", index[path])
    assert model.params["path"].endswith(f"{path}/model") and len(model.params["sha256"]) == 64
    assert not list(fake.root.glob("mlartifacts/models/**/*"))  # named, not copied
    figures = {metric.key: (metric.value, metric.dataset_name) for metric in model.metrics}
    assert figures["test/accuracy"] == (evaluation.data.metrics["test/accuracy"], "quickstart/sums")
    (teacher,) = run_of(fake, index["quickstart/rl/teacher/seed1"]).outputs.model_outputs
    assert teacher.model_id != made.model_id and not training.inputs.model_inputs


def test_an_import_of_before_is_filled_up(fake):
    """Runs that an older version marked as complete get what is shown today."""
    imported(fake)
    whole = dump(fake)
    with sqlite3.connect(fake.root / "mlflow.db") as db:
        for table in (
            "logged_model_metrics",
            "logged_model_params",
            "logged_model_tags",
            "logged_models",
            "inputs",
            "input_tags",
        ):
            db.execute(f"delete from {table}")
        db.execute("update tags set value = 'true' where key = 'opd.complete' and value = '2'")
    db.close()
    imported(fake)
    assert {what: len(rows) for what, rows in dump(fake).items()} == {what: len(rows) for what, rows in whole.items()}


def test_views_hold_a_papers_runs_and_put_its_claims_first(fake):
    index = imported(fake)
    experiment = client(fake).get_experiment_by_name("distillery")
    tags, where = experiment.tags, experiment.experiment_id
    view = json.loads(tags["mlflow.sharedViewState.vopd"])
    assert index["vopd/evaluate/vopd/seed0"] in view["searchFilter"] and index["vopd/opd/vopd/seed0"] in view["searchFilter"]
    found = {run.info.run_id for run in client(fake).search_runs([where], view["searchFilter"])}
    assert len(found) > 2 and found <= set(index.values())
    assert [section["name"] for section in view["compareRunSections"]] == ["test", "ood", "own", "train"]
    assert view["compareRunCharts"][0]["metricKey"] == "test/avg_at_k"  # its first claim is about it
    assert max(map(len, tags.values())) <= 20000  # what MLflow accepts
    note = run_of(fake, index["vopd"]).data.tags["mlflow.note.content"]
    assert f"#/experiments/{where}/runs?viewStateShareKey=vopd&" in note


def test_what_is_not_finite_is_said(fake):
    """A gap in a curve is a tag; a claim that lost its figure shows nan, not the figure of before."""
    curve = fake.root / "vopd/opd/vopd/seed1/metrics.jsonl"
    rows = [json.loads(line) for line in curve.read_text().splitlines()]
    del rows[6]["train/loss"]
    rows[6]["train/skipped"] = 1.0
    curve.write_text("".join(json.dumps(row) + "\n" for row in rows))
    index = imported(fake)
    tags = run_of(fake, index["vopd/opd/vopd/seed1"]).data.tags
    assert tags["opd.gaps"] == "train/loss: no value at step 7"
    assert "opd.gaps" not in run_of(fake, index["vopd/opd/vopd/seed0"]).data.tags
    effect = run_of(fake, index["vopd"]).data.metrics["claim/baseline/effect"]
    assert math.isfinite(effect)
    nan = lambda: with_figure(Plan.read(fake.plan_file, fake.root), "vopd/evaluate/vopd/seed1", "test/avg_at_k", math.nan)
    again = import_results(nan())["runs"]
    data = run_of(fake, again["vopd"]).data
    assert math.isnan(data.metrics["claim/baseline/effect"]) and data.tags["opd.claim.baseline"] == "not measured"
    assert math.isnan(run_of(fake, again["vopd/evaluate/vopd/seed1"]).data.metrics["test/avg_at_k"])
    before = repr(dump(fake))  # nan is not nan
    import_results(nan())
    assert repr(dump(fake)) == before


def test_claims_are_tags_with_their_reasons(fake):
    tags = run_of(fake, imported(fake)["vopd"]).data.tags
    assert tags["opd.claim.here"] == "not testable here"
    assert tags["opd.why.here"].startswith("needs student_sft.test/accuracy > 0.9, found 0.4")
    assert (tags["opd.claim.baseline"], tags["opd.why.baseline"]) == (
        "not enough evidence",
        "2 seeds; a claim needs at least 5",
    )
    assert tags["opd.checkpoints.baseline"] == "left is higher: 2"
    assert tags["opd.checkpoints.missing"] == "no verdict over prompts"


def test_importing_twice_changes_nothing(fake):
    first, before = imported(fake), dump(fake)
    assert imported(fake) == first
    assert dump(fake) == before


def test_changed_result_gets_a_new_run_and_the_old_one_stays(fake):
    first = imported(fake)
    fake.publish("vopd/opd/vopd", version=1)
    second = imported(fake)
    changed = {path for path in first if first[path] != second[path]}
    assert changed == {"vopd/opd/vopd/seed0", "vopd/opd/vopd/seed1"}
    assert run_of(fake, first["vopd/opd/vopd/seed0"]).data.tags["opd.superseded"] == "true"
    assert "opd.superseded" not in run_of(fake, second["vopd/opd/vopd/seed0"]).data.tags
    fake.publish("vopd/opd/vopd", version=0)  # and back again: the first run is the current one
    assert imported(fake) == first
    assert "opd.superseded" not in run_of(fake, first["vopd/opd/vopd/seed0"]).data.tags
    assert run_of(fake, second["vopd/opd/vopd/seed0"]).data.tags["opd.superseded"] == "true"


def test_writing_everything_again_changes_nothing(fake):
    """What the next import does to runs of an interrupted one, here to all of them."""
    imported(fake)
    before = dump(fake)
    with sqlite3.connect(fake.root / "mlflow.db") as db:
        db.execute("delete from tags where key = 'opd.complete'")
    db.close()
    imported(fake)
    assert dump(fake) == before


@pytest.fixture(scope="module")
def whole(tmp_path_factory, empty_store):
    """The store that an undisturbed import makes."""
    fake = FakeResults(tmp_path_factory.mktemp("whole"), seeds=(0,))
    (fake.root / "mlflow.db").write_bytes(empty_store)
    imported(fake)
    return fake


@pytest.mark.parametrize(
    ("method", "done"),
    [
        ("create_run", True),
        ("log_batch", False),
        ("log_batch", True),
        ("files", False),
        ("files", True),
        ("set_terminated", True),
    ],
)
def test_killed_import_is_finished_by_the_next(tmp_path, empty_store, whole, monkeypatch, method, done):
    """Killed at the ninth call of `method`, before or after it took effect."""
    from mlflow import MlflowClient

    torn = FakeResults(tmp_path, seeds=(0,))
    (torn.root / "mlflow.db").write_bytes(empty_store)
    owner = Runs if method == "files" else MlflowClient
    real, calls = getattr(owner, method), 0

    def dying(*args, **kwargs):
        nonlocal calls
        calls += 1
        result = real(*args, **kwargs) if calls != 9 or done else None
        if calls == 9:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, dying)
        with pytest.raises(KeyboardInterrupt):
            imported(torn)
    imported(torn)
    expected, found = dump(whole, by_node=True), dump(torn, by_node=True)
    there, here = str(whole.root), str(torn.root)
    for table, rows in expected.items():
        assert [repr(row).replace(there, here) for row in rows] == [repr(row) for row in found[table]]


def test_errors_name_the_key(fake, tmp_path, monkeypatch, capsys):
    (tmp_path / "text.db").write_text("not a database " * 100)
    for uri in (
        "",
        "sqlite://",
        f"sqlite:///{tmp_path}",
        f"sqlite:///{tmp_path}/text.db",
        "nonsense://x",
        "http://me:pw@127.0.0.1:9",
    ):
        fake.plan["root"]["tracking"]["uri"] = uri
        fake.write_plan()
        monkeypatch.setattr(
            sys, "argv", ["track", "--plan", str(fake.plan_file), "--results", str(fake.root), "--out", str(tmp_path / "o")]
        )
        with pytest.raises(SystemExit) as stop:
            track.main()
        line = capsys.readouterr().err
        assert stop.value.code == 2 and line.count("\n") == 1 and "config.yaml: tracking.uri" in line and ":pw@" not in line
        assert not (tmp_path / "o").exists()


def test_full_disk_is_one_line(fake, monkeypatch):
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LocalArtifactRepository, "log_artifacts", full)
    with pytest.raises(UserError, match=r"tracking.uri: sqlite:.*No space left on device"):
        imported(fake)


def test_names_that_mlflow_accepts():
    assert content.name("pass@8") == "pass_at_8"
    assert content.name("acc,none") == "acc_none"
    assert content.name("train/loss:max") == "train/loss:max"
    assert content.axis_tags({"slot": "", "teacher": "external", "signal": "logits"}) == {
        "opd.axis.teacher": "external",
        "opd.axis.signal": "logits",
    }


def test_the_evaluation_of_a_part_is_tagged_with_its_name(fake):
    result = Plan.read(fake.plan_file, fake.root).result("vopd/evaluate/topk/seed0")
    manifest = json.loads(json.dumps(result.manifest))
    manifest["config"]["parents"]["model"] = "vopd/opd/vopd/seed0:b"
    result.__dict__["manifest"] = manifest
    tags = content.result_tags(result, {}, "tiny")
    assert (tags["opd.variant"], tags["mlflow.runName"]) == ("vopd:b", "evaluate vopd:b seed0")
    manifest["config"]["parents"]["teachers.old.model"] = "quickstart/sft/student_sft/seed0"
    manifest["config"]["options"]["teachers"] = {"old": {"model": "self"}}
    params = content.result_params(result)
    assert (params["model"], params["teachers.old.model"]) == ("vopd/opd/vopd:b", "self")


def test_a_variant_and_its_evaluation_say_what_the_grid_moved():
    node = {"family": "opd", "point": {"optim.lr": 0.002, "method.signal": "rkl", "optim.betas": [0.9, 0.95]}}
    assert content.sweep_tags(node) == {"opd.family": "opd"}
    assert content.sweep_params(node) == {
        "grid.optim.lr": "0.002",
        "grid.method.signal": "rkl",
        "grid.optim.betas": "[0.9, 0.95]",
    }
    assert content.sweep_tags({"family": "", "point": {}}) == content.sweep_params({"family": "", "point": {}}) == {}


def test_rows_are_those_of_the_client(tmp_path, empty_store):
    """Inserted in one statement, params and points leave the rows that log_batch leaves."""
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    points = [("loss", 1 / (step + 1), 1000 + step, step) for step in range(20)]
    points += [("loss", 0.25, 1019, 19), ("loss", 9.0, 5, 3), ("gone", math.nan, 7, 0), ("gone", math.nan, 7, 0)]
    points += [
        ("far", math.inf, 1, 1),
        ("far", -math.inf, 1, 1),
        ("last", 1.0, 2, 5),
        ("last", 2.0, 1, 5),
        ("last", -3.0, 2, 5),
    ]
    with store.connect(f"sqlite:///{tmp_path}/mlflow.db", "d", tmp_path / "a") as (client, experiment):
        runs = Runs(client, experiment)
        with runs.together():
            inserted = runs.create(1.0, {})
            runs.log(inserted, {"lr": "0.1", "name": "x"}, points, {})
        logged = runs.create(1.0, {})
        runs.log(logged, {"lr": "0.1", "name": "x"}, points, {})
    with sqlite3.connect(tmp_path / "mlflow.db") as db:
        for table, columns in (("params", "key, value"), ("metrics", POINT), ("latest_metrics", POINT)):
            one, other = (
                sorted(db.execute(f"select {columns} from {table} where run_uuid = ?", (run,))) for run in (inserted, logged)
            )
            assert one == other and one
    db.close()


def test_a_name_that_mlflow_does_not_take_is_refused(tmp_path, empty_store):
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    for params, points in (({"a=b": "1"}, []), ({}, [("a=b", 1.0, 1, 1)])):
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        with pytest.raises(UserError, match="a=b"), store.connect(uri, "d", tmp_path / "a") as (client, experiment):
            runs = Runs(client, experiment)
            with runs.together():
                runs.log(runs.create(1.0, {}), params, points, {})
