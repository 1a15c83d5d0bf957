"""A kind is one file beside its step: a checkout that gains these two runs, judges and shows nodes of the new kind."""

from __future__ import annotations

import json

from tests.pipeline.checkout import Checkout

KIND = '''
"""Sizes."""

from dataclasses import dataclass
from typing import ClassVar

from opd_steps.graph.kinds._kind import Node
from opd_steps.graph.options import ref


@dataclass
class SizesNode(Node):
    """How large the weights of some models are."""

    PRODUCES: ClassVar[str] = "sizes"
    PHASE: ClassVar[str] = "benchmarks"

    models: list[str] = ref("model", many=True)

    @classmethod
    def check(cls, node, where):
        from opd_steps.errors import UserError

        if not node.options["models"]:
            raise UserError(f"{where}.models", "expected a model")

    @classmethod
    def metrics(cls, node):
        return [f"size/{i}" for i in range(len(node.options["models"]))]
'''
STEP = '''
"""The sizes step."""

from opd_steps.steps._main import main


def sizes(job):
    names = [f"models.{i}" for i in range(len(job.options["models"]))]
    bytes_of = {name: job.path(name, "model/model.safetensors").stat().st_size for name in names}
    job.publish({f"size/{i}": float(bytes_of[name]) for i, name in enumerate(names)}, {})


if __name__ == "__main__":
    main(sizes)
'''
PAPER = """
paper: {title: Toy}
nodes:
  data: {kind: data, source: {name: arithmetic, train: 40, test: 4, ood: 4}}
  small:
    kind: model
    data: data
    config: &tiny
      {hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 1, num_key_value_heads: 1, head_dim: 16}
  large: {kind: model, data: data, config: {<<: *tiny, hidden_size: 32}}
  both: {kind: sizes, models: [small, large]}
claims:
  - {id: larger, says: one is larger, left: both.size/1, op: ">", right: both.size/0}
"""


def test_two_files_are_a_kind(tmp_path):
    checkout = Checkout(tmp_path)
    (tmp_path / "opd_steps/graph/kinds/sizes.py").write_text(KIND)
    (tmp_path / "opd_steps/steps/sizes.py").write_text(STEP)
    (tmp_path / "workflow/papers/toy.yaml").write_text(PAPER)
    refused = ("-n", "--config", "papers=[toy]", "scale=tiny")
    checkout.edit("workflow/papers/toy.yaml", "models: [small, large]", "models: []")
    assert "toy.yaml: nodes.both.models: expected a model" in checkout.snakemake(*refused, check=False).stdout
    (tmp_path / "workflow/papers/toy.yaml").write_text(PAPER)
    checkout.snakemake("all", "--config", "papers=[toy]")
    manifest = json.loads((tmp_path / "results/toy/sizes/both/seed0/manifest.json").read_text())
    assert manifest["metrics"]["size/1"] > manifest["metrics"]["size/0"] > 0
    assert set(manifest["parents"]) == {"models.0", "models.1"} and "opd_steps/steps/sizes.py" in manifest["code"]
    claim = json.loads((tmp_path / "results/report/claims.json").read_text())["claims"][0]
    assert claim["direction"]["verdict"] == "not enough evidence" and claim["direction"]["effect"] > 0
    assert "toy-sizes-both" in (tmp_path / "results/report/index.html").read_text()
    assert json.loads((tmp_path / "results/report/mlflow.json").read_text())["runs"]["toy/sizes/both/seed0"]
    again = checkout.snakemake("-n", "benchmarks", "--config", "papers=[toy]").stdout
    assert "Nothing to be done" in again
    checkout.edit("opd_steps/steps/sizes.py", "float(", "1.0 * float(")
    assert (
        "opd_steps/steps/sizes.py changed; to run again: sizes/both"
        in checkout.snakemake("-n", "benchmarks", "--config", "papers=[toy]").stdout
    )
