"""The run of a paper: parent of its results, with its claims, its plan, and links to the comparison of its variants."""

from __future__ import annotations

import math
import time
from functools import partial

from opd_steps.findings.results import Plan, Result
from opd_steps.graph.kinds import KINDS
from opd_steps.store.fingerprint import digest
from opd_steps.tracking import content, links
from opd_steps.tracking.runs import COMPLETE, Runs

PAPER = "paper"
MOST_COMPARED = 40  # runs, which is what a link holds
COMPARED = {
    links.MODELS: lambda kind: KINDS[kind].PRODUCES == "evaluation",
    links.CURVES: lambda kind: KINDS[kind].VARIANTS,
}


class Papers:
    """`there`: paper -> its run in the store, of those that have one."""

    def __init__(self, runs: Runs, plan: Plan, there: dict):
        self.runs, self.plan, self.there = runs, plan, there

    def start(self, paper: str, results: list[Result]) -> str:
        """The paper's run, made where it is not there yet."""
        if paper in self.there:
            return self.there[paper].info.run_id
        tags = {"mlflow.runName": paper, "opd.node": paper, "opd.paper": paper, "opd.stage": PAPER}
        started = min((r.timing.get("started", 0) for r in results), default=0)
        return self.runs.create(started, tags)

    def describe(self, paper: str, claims: list[dict], index: dict[str, str], contents: dict[str, str]) -> dict[str, str]:
        """Bring the paper's run and view up to date: claims, plan and tags. Nothing is written where nothing changed.

        `index`: run of every result; `contents`: what these runs show (`opd.content`). Returns the paper's links (links.of_paper).
        """
        entry, run_id = self.plan.papers[paper], index[paper]
        there = self.there.get(paper)
        had, old = (there.data.tags, there.data.metrics) if there else ({}, {})
        compared = self._compared(paper)
        runs = {says: [index[path] for path in paths] for says, paths in compared.items()}
        shown = links.of_paper(paper, runs, self.runs.experiment)
        if runs:
            self.runs.view(paper, links.paper_view([run for found in runs.values() for run in found], entry["claims"]))
        shows = {path: contents[path] for paths in compared.values() for path in paths}
        mark = digest([entry, claims, self.plan.root["scale"], list(shown), shows])
        if had.get(COMPLETE) == mark:
            return shown
        tags = content.axis_tags(entry["axes"]) | {"opd.scale": self.plan.root["scale"], "opd.title": entry["title"]}
        tags |= {"opd.arxiv": entry["arxiv"]} if entry["arxiv"] else {}
        tags |= content.source_tags(entry["file"])
        tags |= content.claim_tags(claims) | {"mlflow.note.content": content.paper_note(entry, claims, shown)}
        # A claim's figures change when seeds are added; MLflow shows the newest of them, nan where a claim has none any more.
        now, figures = content.milliseconds(time.time()), content.claim_metrics(claims)
        figures |= {
            key: math.nan for key, value in old.items() if key.startswith("claim/") and key not in figures and value == value
        }
        points = [(key, value, now, 0) for key, value in figures.items() if old.get(key) != value]
        self.runs.log(run_id, {}, points, tags)
        self.runs.files(run_id, partial(content.write_paper_files, entry, claims))
        ends = [
            content.ended(self.plan.result(path)) for path, node in self.plan.everything().items() if node["owner"] == paper
        ]
        self.runs.finish(run_id, max(ends, default=0), mark)
        return shown

    def overview(self) -> None:
        """The view of all papers' runs."""
        self.runs.view(links.PAPERS, links.papers_view())

    def _compared(self, paper: str) -> dict[str, list[str]]:
        """Results worth holding against each other: all evaluated models, and the curves of the variants, each at the first seed."""
        found = {}
        for says, wanted in COMPARED.items():
            nodes = [node for node in self.plan.nodes(paper) if wanted(node["kind"])]
            found[says] = [next(iter(self.plan.seeds(node).values())).path for node in nodes][:MOST_COMPARED]
        return {says: paths for says, paths in found.items() if len(paths) > 1}
