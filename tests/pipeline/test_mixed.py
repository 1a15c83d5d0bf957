"""A mixture of two domains in every training that reads data, and figures of each domain."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from opd_steps.config.load import load_root
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.nodes import Graph
from opd_steps.store.metrics import read_metrics
from tests.pipeline.inprocess import run_node

ROOT = Path(__file__).parents[2]


def rows(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_domains_are_trained_on_judged_and_measured_each(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = OmegaConf.to_container(OmegaConf.load("config.yaml")) | {"papers": ["tests/pipeline/mixed.yaml"]}
    graph, metrics = checked(Graph.of(load_root(config))), {}
    for node in wanted(graph):
        metrics[node.name] = run_node(node, tmp_path, 0)["metrics"]
    data = tmp_path / "mixed/data/data/seed0"
    assert Counter(row["meta"]["domain"] for row in rows(data / "train.jsonl")) == {"sums": 60, "lists": 20}

    for name, kind in (("rewarded", "rl"), ("taught", "opd")):
        curves = read_metrics(tmp_path / f"mixed/{kind}/{name}/seed0/metrics.jsonl")
        assert {"train/reward/sums", "train/length/sums", "train/reward/lists"} <= {key for row in curves for key in row}
        for row in curves:  # the mean over all rows lies between those of the domains
            parts = [row[key] for key in ("train/length/sums", "train/length/lists") if key in row]
            assert min(parts) - 1e-6 <= row["train/length"] <= max(parts) + 1e-6

    name, measured = next((name, found) for name, found in metrics.items() if "test/accuracy" in found)
    domain = {row["id"]: row["meta"]["domain"] for split in ("test", "ood") for row in rows(data / f"{split}.jsonl")}
    for split in ("test", "ood"):
        table = rows(tmp_path / f"mixed/evaluate/{name}/seed0/samples/{split}.jsonl")
        for value in ("sums", "lists"):
            right = [row["c"] / 2 for row in table if domain[row["id"]] == value]
            assert measured[f"{split}/avg_at_k/{value}"] == pytest.approx(sum(right) / len(right))
        shares = Counter(domain[row["id"]] for row in table)
        whole = sum(measured[f"{split}/accuracy/{value}"] * count for value, count in shares.items()) / len(table)
        assert measured[f"{split}/accuracy"] == pytest.approx(whole)
