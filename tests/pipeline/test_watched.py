"""A run as a user starts it, whose training is looked at: hooks in the paper, a server in config.yaml."""

from __future__ import annotations

import json

from tests.pipeline.checkout import Checkout
from tests.unit.test_live import Server, drawn

PAPER = """
paper: {title: Watched}
nodes:
  data: {kind: data, seed: 0, source: {name: arithmetic, train: 200, test: 20, ood: 20}, verifier: {name: exact, after: "="}}
  init:
    kind: model
    data: data
    config: {hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 16}
  base:
    kind: pretrain
    model: init
    data: data
    steps: 6
    batch: 16
    hooks:
      - {name: held_out, split: ood, every: 2, prompts: 8, max_new_tokens: 8, best: true}
      - {name: samples, every: 3, prompts: 2, max_new_tokens: 8}
    spikes: {factor: 50}
  more: {kind: sft, student: "base:best", data: data, steps: 2, batch: 8}
"""


def test_hooks_of_a_paper_and_the_server_of_the_config(tmp_path):
    server, checkout = Server(), Checkout(tmp_path / "run").without("smoke")
    (checkout.folder / "mine.yaml").write_text(PAPER)
    checkout.edit("config.yaml", "uri: sqlite:///results/mlflow.db", f"uri: {server.uri}")
    checkout.snakemake("teachers", "students", "--config", "papers=[mine.yaml]")
    server.http.shutdown()
    folder = checkout.folder / "results/mine/pretrain/base/seed0"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"samples.jsonl", "parts/best/model/model.safetensors"} <= manifest["files"].keys()
    assert {"train/held", "train/held_best", "train/spikes"} <= manifest["metrics"].keys()
    runs = {run["tags"]["mlflow.runName"]: run for run in server.runs.values()}
    assert runs.keys() == {"live base seed0", "live more seed0"}
    points = runs["live base seed0"]["points"]
    fast = {(step, key) for step, key, _ in points if key.startswith("system/")}
    assert (6, "system/tokens_per_s") in fast and (6, "system/tflops_per_s") in fast
    assert sorted(p for p in points if p[:2] not in fast) == drawn((folder / "metrics.jsonl").read_bytes())
    assert all(run["states"] == ["FINISHED"] for run in runs.values())
