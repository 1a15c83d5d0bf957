"""The import of published results into MLflow: a view that can be thrown away and made again.

One parent run per paper, one child run per result under the paper that owns it. A run is found again by its `opd.node`
and `opd.content` tags and marked `opd.complete` last, so an import that was killed anywhere is finished by the next one.
"""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path

from opd_steps.findings.judge import judge
from opd_steps.findings.results import Plan, Result
from opd_steps.graph.kinds import KINDS
from opd_steps.store.fingerprint import digest
from opd_steps.tracking import content
from opd_steps.tracking.store import connect

MOST_COMPARED = 40  # runs, which is what a link holds
COMPLETE, SUPERSEDED, PAPER = "opd.complete", "opd.superseded", "paper"


def import_results(plan: Plan) -> dict[str, str]:
    """Bring the store of `plan.root["tracking"]` up to date; returns {path of a result, or paper: run id}.

    Importing twice changes nothing. A result whose content changed gets a new run; the old one is tagged
    `opd.superseded`. Raises UserError when the store cannot be used; what is already there stays valid.
    """
    tracking = plan.root["tracking"]
    with connect(tracking["uri"], tracking["experiment"], plan.results / "mlartifacts") as (client, experiment):
        return _Importer(client, experiment, plan).run()


class _Importer:
    def __init__(self, client, experiment: str, plan: Plan):
        self.client, self.experiment, self.plan = client, experiment, plan
        self.contents: dict[str, str] = {}  # path of a result -> what its run shows
        self.runs: dict[str, list] = {}  # opd.node (path of a result, or paper) -> its runs

    def run(self) -> dict[str, str]:
        nodes = self.plan.everything()
        results = {path: self.plan.result(path) for path in nodes}
        owners = list(dict.fromkeys([*self.plan.papers, *(r.manifest["paper"] for r in results.values())]))
        for paper in owners:
            self._find(paper)
        index = {
            paper: self._paper_run(paper, [r for r in results.values() if r.manifest["paper"] == paper]) for paper in owners
        }
        for path, result in results.items():
            index[path] = self._import(result, nodes[path], index[result.manifest["paper"]])
        for paper, claims in judge(self.plan).items():
            self._describe(paper, claims, index)
        return index

    def _find(self, paper: str) -> None:
        token = None
        while token != "":
            found = self.client.search_runs(
                [self.experiment], f"tags.`opd.paper` = '{paper}'", max_results=1000, page_token=token
            )
            for run in found:
                self.runs.setdefault(run.data.tags.get("opd.node", ""), []).append(run)
            token = found.token or ""

    def _import(self, result: Result, node: dict, parent: str) -> str:
        tags = content.sweep_tags(node) | content.result_tags(
            result, self._axes(result.manifest["paper"]), self.plan.root["scale"]
        )
        self.contents[result.path] = tags["opd.content"]
        run = self._choose(result.path, tags["opd.content"])
        if run is None:
            tags["mlflow.parentRunId"] = parent
            run = self.client.create_run(self.experiment, start_time=_milliseconds(result.timing.get("started", 0)), tags=tags)
        elif COMPLETE in run.data.tags:
            return run.info.run_id
        run_id, start = run.info.run_id, run.info.start_time
        # Timestamps hang on the run's recorded start, so what an interrupted import has written is written again as it is.
        points = [(name, value, start + step, step) for name, value, step in content.result_points(result)]
        self._log(run_id, content.result_params(result) | content.sweep_params(node), points)
        with tempfile.TemporaryDirectory() as folder:
            content.write_result_files(result, Path(folder))
            self.client.log_artifacts(run_id, folder)
        self._finish(run_id, start + _milliseconds(result.timing.get("wall_s", 0)), "true")
        return run_id

    def _choose(self, node: str, wanted: str):
        """The run of this content, if there is one; all other runs of the node are marked as superseded."""
        current = None
        for run in self.runs.get(node, []):
            tags = run.data.tags
            if tags["opd.content"] == wanted and current is None:
                current = run
                if SUPERSEDED in tags:
                    self.client.delete_tag(run.info.run_id, SUPERSEDED)
            elif SUPERSEDED not in tags:
                self.client.set_tag(run.info.run_id, SUPERSEDED, "true")
        return current

    def _paper_run(self, paper: str, results: list[Result]) -> str:
        if paper in self.runs:
            return self.runs[paper][0].info.run_id
        tags = {"mlflow.runName": paper, "opd.node": paper, "opd.paper": paper, "opd.stage": PAPER}
        started = min((r.timing.get("started", 0) for r in results), default=0)
        run = self.client.create_run(self.experiment, start_time=_milliseconds(started), tags=tags)
        self.runs[paper] = [run]
        return run.info.run_id

    def _compared(self, paper: str) -> dict[str, list[str]]:
        """Results worth holding against each other: all evaluated models, and the curves of the variants, each at the first seed."""
        shown = {
            "Compare the evaluated models": lambda kind: KINDS[kind].PRODUCES == "evaluation",
            "Compare the variants' curves": lambda kind: KINDS[kind].VARIANTS,
        }
        found = {}
        for says, wanted in shown.items():
            nodes = [node for node in self.plan.nodes(paper) if wanted(node["kind"])]
            found[says] = [next(iter(self.plan.seeds(node).values())).path for node in nodes][:MOST_COMPARED]
        return {says: paths for says, paths in found.items() if len(paths) > 1}

    def _describe(self, paper: str, claims: list[dict], index: dict[str, str]) -> None:
        """Bring a paper's own run up to date: claims, plan and tags. Nothing is written where nothing changed."""
        entry, run, run_id = self.plan.papers[paper], self.runs[paper][0], index[paper]
        compared = self._compared(paper)
        links = {
            says: content.compare_link([index[path] for path in paths], self.experiment) for says, paths in compared.items()
        }
        note = content.paper_note(entry, claims, links)
        mark = digest(
            [entry, claims, self.plan.root["scale"], {p: self.contents[p] for paths in compared.values() for p in paths}]
        )
        if run.data.tags.get(COMPLETE) == mark:
            return
        tags = content.axis_tags(entry["axes"]) | {"opd.scale": self.plan.root["scale"], "opd.title": entry["title"]}
        tags |= {"opd.arxiv": entry["arxiv"]} if entry["arxiv"] else {}
        tags |= content.claim_tags(claims) | {"mlflow.note.content": note}
        # A claim's figures change when seeds are added; MLflow shows the newest of them, nan where a claim has none any more.
        now, old = _milliseconds(time.time()), run.data.metrics
        figures = content.claim_metrics(claims)
        figures |= {
            key: math.nan for key, value in old.items() if key.startswith("claim/") and key not in figures and value == value
        }
        points = [(key, value, now, 0) for key, value in figures.items() if old.get(key) != value]
        self._log(run_id, {}, points, tags)
        with tempfile.TemporaryDirectory() as folder:
            content.write_paper_files(entry, claims, Path(folder))
            self.client.log_artifacts(run_id, folder)
        ends = [_end(self.plan.result(path)) for path, node in self.plan.everything().items() if node["owner"] == paper]
        self._finish(run_id, _milliseconds(max(ends, default=0)), mark)

    def _log(self, run_id: str, params: dict[str, str], points: list[tuple], tags: dict[str, str] | None = None) -> None:
        from mlflow.entities import Metric, Param, RunTag

        # One call: the client itself cuts it into requests of 1000 metrics and 100 params or tags.
        self.client.log_batch(
            run_id,
            metrics=[Metric(*point) for point in points],
            params=[Param(*item) for item in params.items()],
            tags=[RunTag(*item) for item in (tags or {}).items()],
        )

    def _finish(self, run_id: str, end: int, mark: str) -> None:
        self.client.set_terminated(run_id, status="FINISHED", end_time=end)
        self.client.set_tag(run_id, COMPLETE, mark)

    def _axes(self, paper: str) -> dict[str, str]:
        return self.plan.papers[paper]["axes"] if paper in self.plan.papers else {}


def _end(result: Result) -> float:
    return result.timing.get("started", 0) + result.timing.get("wall_s", 0)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
