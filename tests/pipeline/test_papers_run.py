"""Every paper of the list, cut down to the fewest steps: each node runs, and every claim finds its figures."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from opd_steps.config.load import load_root
from opd_steps.graph import agreement
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.claims import required
from opd_steps.graph.nodes import Graph
from opd_steps.graph.references import sides
from opd_steps.store.artifacts import read_manifest
from tests.pipeline.inprocess import cut, run_node

ROOT = Path(__file__).parents[2]
MAY_BE_OF_NOTHING = (
    "stderr",
    "spr",
    "parsed",
    "correct",
    "wrong",
    "inverted",
    "context/gap",
    "context/lift",
    "debate/sure",
    "tutoring/",
    "train/accuracy",
    "critic/accuracy",
    "alignment/",
    "detour",
    "distortion/right",
    "power/snr",
    "auc/",
)
"""Means over right, wrong or parsed samples, or over what is shown or compared of them, which a model that learned nothing may not have,
and a ratio to no gradient: left out."""


def of_nothing(metric: str) -> bool:
    return any(part in metric for part in MAY_BE_OF_NOTHING)


def graph() -> Graph:
    return cut(checked(Graph.of(load_root(OmegaConf.to_container(OmegaConf.load("config.yaml")) | {"papers": "all"}))))


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> tuple[Graph, Path]:
    """All papers in one results folder: shared nodes run once."""
    results = tmp_path_factory.mktemp("papers") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        built = graph()
        for node in wanted(built):
            run_node(node, results, 0)
    return built, results


def test_every_node_of_every_paper_publishes_finite_figures(everything):
    built, results = everything
    for node in wanted(built):
        metrics = read_manifest(results / node.path(0))["metrics"]
        assert metrics or node.kind in ("model", "drafter", "score"), node.key
        assert [name for name, value in metrics.items() if not math.isfinite(value)] == [], node.key


def test_what_is_asked_of_models_before_a_paper_runs_holds(everything):
    built, results = everything
    for paper in built.selected:
        agreement.check(built, paper, 0, results)


def test_every_claim_finds_its_figures(everything):
    built, results = everything
    absent = []
    for paper in built.selected:
        for i, claim in enumerate(built.papers[paper]["claims"]):
            both = [*sides(built, paper, i), *(side for needed in required(built, paper, i) for side in needed.sides)]
            for node, metric in (term for side in both if isinstance(side, list) for term in side):
                if not of_nothing(metric) and metric not in read_manifest(results / node.path(0))["metrics"]:
                    absent.append(f"{paper}/{claim['id']}: {node.name}.{metric}")
    assert absent == []
