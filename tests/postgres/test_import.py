"""The import into PostgreSQL shows what the one into sqlite shows; a database that dies costs nothing but the import."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("mlflow")

from opd_steps.errors import UserError
from opd_steps.findings.results import Plan
from opd_steps.tracking import runs
from opd_steps.tracking.importer import import_results
from tests.postgres.servers import Postgres, mlflow_server
from tests.unit.fake_results import FakeResults

pytestmark = pytest.mark.xdist_group("postgres")


def imported(fake: FakeResults, uri: str, experiment: str) -> dict[str, str]:
    fake.plan["root"]["tracking"] = {"uri": uri, "experiment": experiment}
    fake.write_plan()
    return import_results(Plan.read(fake.plan_file, fake.root))["runs"]


def shown(uri: str, experiment: str) -> dict[str, dict]:
    """All that MLflow's client sees of each run, by node, ids replaced by what they are of."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    where = client.get_experiment_by_name(experiment)
    found = client.search_runs([where.experiment_id], max_results=1000)
    names = {run.info.run_id: run.data.tags["opd.node"] for run in found}
    models = client.search_logged_models([where.experiment_id], max_results=50)
    names |= {model.model_id: f"model of {names[model.source_run_id]}" for model in models}
    ids = re.compile("|".join(names))
    plain = lambda text: ids.sub(lambda found: names[found[0]], str(text)).replace(
        f"/experiments/{where.experiment_id}/", "/experiments/N/"
    )
    plain_tag = lambda text: re.sub(r"experiments=%5B%22\d+%22%5D", "experiments=N", plain(text))
    return {
        names[run.info.run_id]: {
            "params": run.data.params,
            "metrics": {key: value for key, value in run.data.metrics.items() if value == value},
            "tags": {key: plain_tag(value) for key, value in run.data.tags.items()},
            "data": sorted((one.dataset.name, one.dataset.digest, one.dataset.source) for one in run.inputs.dataset_inputs),
            "made": sorted(plain(one.model_id) for one in run.outputs.model_outputs),
            "curve": [(p.step, p.value, p.timestamp) for p in client.get_metric_history(run.info.run_id, "train/loss")],
            "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
            "times": (run.info.start_time, run.info.end_time, run.info.status),
        }
        for run in found
    }


@pytest.fixture(scope="module")
def postgres():
    with Postgres() as database:
        yield database


@pytest.fixture
def fake(tmp_path) -> FakeResults:
    return FakeResults(tmp_path, seeds=(0,))


def test_into_the_database_and_through_a_server_as_into_sqlite(fake, postgres, tmp_path):
    sqlite = f"sqlite:///{tmp_path}/mlflow.db"
    imported(fake, sqlite, "a")
    expected = shown(sqlite, "a")
    first = imported(fake, postgres.uri, "direct")
    assert shown(postgres.uri, "direct") == expected
    assert imported(fake, postgres.uri, "direct") == first  # nothing is there twice
    (tmp_path / "files").mkdir()
    with mlflow_server(postgres.uri, tmp_path / "files") as address:
        index = imported(fake, address, "served")
        assert shown(address, "served") == expected
        assert imported(fake, address, "served") == index
        assert any((tmp_path / "files").rglob("curves.svg"))


def test_a_database_that_dies_in_mid_import(fake, postgres, monkeypatch):
    """One line names the key, no result is touched, and the next import finishes what this one began."""
    before = {path: path.read_bytes() for path in fake.root.rglob("*") if path.is_file()}
    real, calls = runs.Runs.log, 0

    def dying(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == 12:
            postgres.stop()
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(runs.Runs, "log", dying)
        with pytest.raises(UserError, match=r"config.yaml: tracking.uri: postgresql://") as error:
            imported(fake, postgres.uri, "dies")
    assert "secret" not in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"tracking.uri"):  # and while it is down, at once
        imported(fake, postgres.uri, "dies")
    assert {path: path.read_bytes() for path in before if path != fake.plan_file} == before
    postgres.start()
    imported(fake, postgres.uri, "dies")
    imported(fake, postgres.uri, "whole")
    assert shown(postgres.uri, "dies") == shown(postgres.uri, "whole")


def test_an_address_of_nobody_is_refused_at_once(fake):
    with pytest.raises(UserError, match=r"tracking.uri: postgresql://127.0.0.1:9/none") as error:
        imported(fake, "postgresql://me:hidden@127.0.0.1:9/none", "x")
    assert "hidden" not in str(error.value)
    assert not list(fake.root.glob("mlartifacts"))
