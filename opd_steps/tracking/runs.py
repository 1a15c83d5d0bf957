"""Runs of one experiment, written through MLflow's client: what a call means for runs that are there in part, and many of them at once."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path

from opd_steps.tracking.content import milliseconds
from opd_steps.tracking.lineage import PART, Data, Model
from opd_steps.tracking.links import VIEW
from opd_steps.tracking.rows import insert_rows

COMPLETE = "opd.complete"
PAGE = 1000


class Runs:
    """`client`: an MlflowClient; `experiment`: the id of its experiment."""

    def __init__(self, client, experiment: str):
        self.client, self.experiment = client, experiment
        self._session = None  # of the transaction that is open
        self._folders: dict[str, str] = {}  # run that was made here -> where its files go

    @contextmanager
    def together(self) -> Iterator[None]:
        """One transaction of all that is written inside, where the store is a database and not a server: half the time, and all or nothing.

        MLflow opens a session for each call, and commits up to five times in it; here all calls share one. Only for rows that
        are new: where it finds one that is there, MLflow rolls the session back, and the others with it.
        """
        store = self.client._tracking_client.store
        own = getattr(store, "ManagedSessionMaker", None)
        if own is None:
            yield
            return
        with own(read_only=False) as session:
            session.commit = session.flush
            store.ManagedSessionMaker = lambda read_only=True: nullcontext(session)
            self._session = session
            try:
                yield
            finally:
                self._session = None
                store.ManagedSessionMaker = own
                del session.commit

    def search(self, which: str) -> Iterator:
        token = None
        while token != "":
            found = self.client.search_runs([self.experiment], which, max_results=PAGE, page_token=token)
            yield from found
            token = found.token or ""

    def create(self, started: float, tags: dict[str, str]) -> str:
        run = self.client.create_run(self.experiment, start_time=milliseconds(started), tags=tags).info
        self._folders[run.run_id] = run.artifact_uri
        return run.run_id

    def log(
        self,
        run: str,
        params: dict[str, str],
        points: list[tuple],
        tags: dict[str, str],
        model: str = "",
        data: list[Data] = (),
    ) -> None:
        """Points are (name, value, timestamp, step). `model`: the one that they were measured of, on the first of `data`."""
        from mlflow.entities import Metric, Param, RunTag

        if self._session:
            # A model's own points, an evaluation's few, are the client's to write: they have a second table.
            insert_rows(self.client._tracking_client.store, self._session, run, params, [] if model else points)
            params, points = {}, points if model else []
        if not (params or points or tags):
            return
        of = {"model_id": model} if model else {}
        if model and data:
            of |= {"dataset_name": data[0].name, "dataset_digest": data[0].digest}
        # One call: the client itself cuts it into requests of 1000 metrics and 100 params or tags.
        self.client.log_batch(
            run,
            metrics=[Metric(*point, **of) for point in points],
            params=[Param(*item) for item in params.items()],
            tags=[RunTag(*item) for item in tags.items()],
        )

    def reads(self, run: str, data: list[Data], model: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput

        sets = [
            DatasetInput(
                Dataset(one.name, one.digest, "local", one.source, profile=one.profile),
                [InputTag("mlflow.data.context", one.context)],
            )
            for one in data
        ]
        if sets or model:
            self.client.log_inputs(run, sets or None, [LoggedModelInput(model)] if model else None)

    def makes(self, run: str, model: Model) -> str:
        """The id of the model in MLflow, made where it is not there yet. Its weights are named, not copied."""
        from mlflow.entities import LoggedModelOutput

        if found := self.model(run, model.part):
            if self.client.get_logged_model(found).status != "READY":
                self.client.finalize_logged_model(found, "READY")
            if found not in {output.model_id for output in self.client.get_run(run).outputs.model_outputs}:
                self.client.log_outputs(run, [LoggedModelOutput(found, model.step)])
            return found
        made = self.client.create_logged_model(
            self.experiment, model.name, run, model.tags, model.params, model.tags["opd.stage"]
        )
        self.client.finalize_logged_model(made.model_id, "READY")
        self.client.log_outputs(run, [LoggedModelOutput(made.model_id, model.step)])
        self._models[run, model.part] = made.model_id
        return made.model_id

    def model(self, run: str, part: str) -> str:
        """The id of the model that a run has made, "" where it is not there."""
        return self._models.get((run, part), "")

    @cached_property
    def _models(self) -> dict[tuple[str, str], str]:
        """All models that are there when the first one is asked for."""
        found, token = {}, None
        while token != "":
            page = self.client.search_logged_models([self.experiment], max_results=50, page_token=token)
            found |= {(model.source_run_id, model.tags.get(PART, "")): model.model_id for model in page}
            token = page.token or ""
        return found

    @cached_property
    def _views(self) -> dict[str, str]:
        return self.client.get_experiment(self.experiment).tags

    def view(self, name: str, state: dict) -> None:
        """A view of the experiment's page, which an address can name (links.py); not written where it is there."""
        text = json.dumps(state, separators=(",", ":"))
        if self._views.get(VIEW + name) != text:
            self.client.set_experiment_tag(self.experiment, VIEW + name, text)

    def files(self, run: str, write: Callable[[Path], None]) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            if run in self._folders:  # the client would read the whole run again, to learn where its files go
                artifacts = get_artifact_repository(self._folders[run], tracking_uri=self.client.tracking_uri)
                artifacts.log_artifacts(folder)
            else:
                self.client.log_artifacts(run, folder)

    def tag(self, run, key: str) -> None:
        self.client.set_tag(run.info.run_id, key, "true")

    def untag(self, run, key: str) -> None:
        self.client.delete_tag(run.info.run_id, key)

    def finish(self, run: str, ended: float, mark: str) -> None:
        self.client.set_terminated(run, status="FINISHED", end_time=milliseconds(ended))
        self.client.set_tag(run, COMPLETE, mark)
