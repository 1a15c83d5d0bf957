"""On a GPU: every paper of the list runs, cut down to the fewest steps, and what it measures is finite."""

from __future__ import annotations

import math
from itertools import takewhile
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from opd_steps.config.load import load_root, self_contained
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.nodes import Graph
from opd_steps.loop import checkpoint
from tests.pipeline.inprocess import cut, run_node

ROOT = Path(__file__).parents[2]
HERE = torch.cuda.is_available()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not HERE, reason="no GPU")]


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(ROOT)
    return tmp_path / "results"


def graph_of(paper: str) -> Graph:
    return cut(checked(Graph.of(load_root(OmegaConf.to_container(OmegaConf.load("config.yaml")) | {"papers": [paper]}))))


@pytest.mark.parametrize("paper", self_contained() if HERE else ["any"])
def test_paper(paper, results):
    graph = graph_of(paper)
    for node in wanted(graph):
        metrics = run_node(node, results, 0)["metrics"]
        assert [name for name, value in metrics.items() if not math.isfinite(value)] == [], node.key


def test_a_training_killed_and_resumed_ends_with_the_same_bytes(results, monkeypatch):
    """And two unbroken ones do."""
    graph = graph_of("quickstart")
    node = next(n for n in wanted(graph) if n.kind == "opd")
    for parent in takewhile(lambda other: other is not node, wanted(graph)):
        run_node(parent, results, 0)
    weights = results / node.path(0) / "model" / "model.safetensors"

    def run() -> bytes:
        run_node(node, results, 0)
        found = weights.read_bytes()
        (results / node.path(0) / "manifest.json").unlink()
        return found

    whole, again = run(), run()
    assert whole == again
    with monkeypatch.context() as patch:  # killed right after its first checkpoint
        patch.setattr(checkpoint, "save", _and_die(checkpoint.save))
        with pytest.raises(KeyboardInterrupt):
            run_node(node, results, 0)
    assert run() == whole


def _and_die(save):
    def saved(*args):
        save(*args)
        raise KeyboardInterrupt

    return saved
