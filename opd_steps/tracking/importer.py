"""The import of published results into MLflow: a view that can be thrown away and made again.

One parent run per paper, one child run per result under the paper that owns it. A run is found again by its `opd.node`
and `opd.content` tags and marked `opd.complete` last, so an import that was killed anywhere is finished by the next one.
"""

from __future__ import annotations

import gc
from functools import partial

from opd_steps.findings.judge import judge
from opd_steps.findings.results import Plan, Result
from opd_steps.tracking import content, lineage, links, live
from opd_steps.tracking.papers import Papers
from opd_steps.tracking.runs import COMPLETE, Runs
from opd_steps.tracking.store import connect

TOGETHER = 30  # results; the next readers wait while a transaction is open, seconds
SUPERSEDED = "opd.superseded"
WHOLE = "2"  # the mark of a run that shows all that is shown today; another one is filled up


def import_results(plan: Plan) -> dict[str, dict]:
    """Bring the store of `plan.root["tracking"]` up to date.

    Returns `runs`: path of a result, or paper -> run id; `links`: paper -> what a link says -> address within MLflow's pages;
    `pages`: paper, or "" for all -> address of the view of its charts.

    Importing twice changes nothing. A result whose content changed gets a new run; the old one is tagged
    `opd.superseded`. Raises UserError when the store cannot be used; what is already there stays valid.
    """
    tracking = plan.root["tracking"]
    with connect(tracking["uri"], tracking["experiment"], plan.results / "mlartifacts") as (client, experiment):
        return _Importer(Runs(client, experiment), plan).run()


class _Importer:
    def __init__(self, runs: Runs, plan: Plan):
        self.runs, self.plan = runs, plan
        self.found: dict[str, list] = {}  # opd.node (path of a result, or paper) -> its runs
        self.index: dict[str, str] = {}  # the same -> the run that shows it now
        self.contents: dict[str, str] = {}  # path of a result -> what its run shows
        self.models: dict[tuple[str, str], str] = {}  # path of a result, part -> MLflow's id of the model

    def run(self) -> dict[str, dict]:
        nodes = self.plan.everything()
        results = {path: self.plan.result(path) for path in nodes}
        owners = list(dict.fromkeys([*self.plan.papers, *(r.manifest["paper"] for r in results.values())]))
        for paper in owners:
            self._find(paper)
        papers = Papers(self.runs, self.plan, {paper: self.found[paper][0] for paper in owners if paper in self.found})
        with self.runs.together():
            for paper in owners:
                self.index[paper] = papers.start(paper, [r for r in results.values() if r.manifest["paper"] == paper])
        gc.freeze()  # hundreds of thousands of rows pass by, and none of them is part of a cycle
        for first in range(0, len(results), TOGETHER):
            self._import(list(results.values())[first : first + TOGETHER], nodes)
        gc.unfreeze()
        if self.plan.root["tracking"]["uri"].startswith("http"):
            live.retire(self.runs, results.values())
        papers.overview()
        shown = {paper: papers.describe(paper, claims, self.index, self.contents) for paper, claims in judge(self.plan).items()}
        shown = {paper: found for paper, found in shown.items() if found}
        pages = {"": links.view(links.PAPERS, self.runs.experiment)} | {
            paper: found[links.CHARTS] for paper, found in shown.items()
        }
        return {"runs": self.index, "links": shown, "pages": pages}

    def _find(self, paper: str) -> None:
        for run in self.runs.search(f"tags.`opd.paper` = '{paper}'"):
            self.found.setdefault(run.data.tags.get("opd.node", ""), []).append(run)

    def _import(self, batch: list[Result], nodes: dict[str, dict]) -> None:
        """What is new in one transaction, files, and in another one the mark that all of it is there."""
        new, begun = [], []
        for result in batch:
            tags = self._tags(result, nodes[result.path])
            self.contents[result.path] = tags["opd.content"]
            run = self._choose(result.path, tags["opd.content"])
            if run is None:
                new.append((result, tags))
            else:
                self.index[result.path] = run.info.run_id
                if run.data.tags.get(COMPLETE) != WHOLE:
                    begun.append((result, tags))
        for result, tags in begun:  # what of it is there already, a transaction of several would stumble over
            self._write(result, nodes[result.path], tags)
        with self.runs.together():
            for result, tags in new:
                tags["mlflow.parentRunId"] = self.index[result.manifest["paper"]]
                started = result.timing.get("started", 0)
                self.index[result.path] = self.runs.create(started, tags)
                self._write(result, nodes[result.path], {})
        written = [result for result, _ in (*begun, *new)]
        with self.runs.together():
            for result in written:
                self.runs.files(self.index[result.path], partial(content.write_result_files, result))
            for result in written:
                self.runs.finish(self.index[result.path], content.ended(result), WHOLE)

    def _write(self, result: Result, node: dict, tags: dict[str, str]) -> None:
        """Everything of a result but its files. What an interrupted import has written is written again as it is."""
        run, start = self.index[result.path], content.milliseconds(result.timing.get("started", 0))
        data, read = lineage.data_read(result), lineage.model_read(result)
        points = [(name, value, start + step, step) for name, value, step in content.result_points(result)]
        measured = self._model(*read) if read else ""
        self.runs.log(run, content.result_params(result) | content.sweep_params(node), points, tags, measured, data)
        self.runs.reads(run, data, measured)
        for model in lineage.models_made(result):
            self.models[result.path, model.part] = self.runs.makes(run, model)

    def _model(self, path: str, part: str) -> str:
        """MLflow's id of a model that an earlier import, or this one, has written; "" of one that is unknown."""
        if (path, part) not in self.models and path in self.index:
            self.models[path, part] = self.runs.model(self.index[path], part)
        return self.models.get((path, part), "")

    def _tags(self, result: Result, node: dict) -> dict[str, str]:
        paper = self.plan.papers.get(result.manifest["paper"], {"axes": {}})
        return content.sweep_tags(node) | content.result_tags(result, paper["axes"], self.plan.root["scale"])

    def _choose(self, node: str, wanted: str):
        """The run of this content, if there is one; all other runs of the node are marked as superseded."""
        current = None
        for run in self.found.get(node, []):
            tags = run.data.tags
            if tags["opd.content"] == wanted and current is None:
                current = run
                if SUPERSEDED in tags:
                    self.runs.untag(run, SUPERSEDED)
            elif SUPERSEDED not in tags:
                self.runs.tag(run, SUPERSEDED)
        return current
