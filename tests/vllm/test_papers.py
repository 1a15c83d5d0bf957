"""`snakemake all --config engine=vllm` is for every paper, so the tiny models have shapes that vLLM takes on a CPU."""

from __future__ import annotations

from pathlib import Path

from omegaconf import OmegaConf
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

from opd_steps.config.load import load_root
from opd_steps.config.plugs import constant
from opd_steps.graph.code import FAMILIES
from opd_steps.graph.nodes import Graph

ROOT = Path(__file__).parents[2]


def test_every_tiny_model_has_heads_that_vllm_takes(monkeypatch):
    monkeypatch.chdir(ROOT)
    papers = sorted(path.stem for path in Path("workflow/papers").glob("*.yaml"))
    root = OmegaConf.to_container(OmegaConf.load("config.yaml")) | {"papers": papers, "scale": "tiny"}
    shapes = {
        key: node.options["config"]
        for key, node in Graph.of(load_root(root)).nodes.items()
        if key[1] == "model"
        and not node.options["path"]
        and "vllm" in constant(FAMILIES, node.options["family"]["name"], "ENGINES")
    }
    assert len(shapes) > 8
    fitting = CPUAttentionBackend.get_supported_head_sizes()
    assert {"/".join(key): shape["head_dim"] for key, shape in shapes.items() if shape["head_dim"] not in fitting} == {}
