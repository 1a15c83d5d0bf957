"""Whose weights a step reads that only samples: those of a model that samples itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from opd_steps.errors import NotFinite
from opd_steps.models.folder import MODEL
from opd_steps.steps._models import load_sampler
from tests.pipeline.stages import save_checkpoint

SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 3, "stop": []}


class Engine:
    """Says of each context the same two tokens."""

    version = 0

    def generate(self, contexts, seeds, **options):
        return [torch.tensor([4, 1])] * len(contexts), [torch.zeros(2)] * len(contexts), [True] * len(contexts)


def job(tmp_path, engine: str) -> SimpleNamespace:
    """Its policy's weights are no numbers, which whoever reads them says."""
    file = save_checkpoint(tmp_path / "node" / MODEL) / "model.safetensors"
    save_file({name: torch.full_like(weight, torch.nan) for name, weight in load_file(file).items()}, file, {"format": "pt"})
    options = {"engine": {"name": engine, "batch": 4}, "dtype": "float32", "sampling": SAMPLING}
    manifests = {"policy": {"facts": {"family": {"name": "causal_lm"}}}}
    return SimpleNamespace(options=options, manifests=manifests, path=lambda role: tmp_path / "node")


@pytest.mark.parametrize("engine", ["vllm", "server"])
def test_an_engine_samples_and_no_weight_is_read(tmp_path, engine):
    policy = load_sampler(job(tmp_path, engine), "policy")
    assert all(p.is_meta for p in policy.model.parameters())
    assert len(policy.family.identity(policy)["tokenizer"]) > 8
    policy.engine = Engine()
    rows = policy.rollout([[5, 6], [7]], [0, 1], [0, 1])
    assert rows.length_B.tolist() == [2, 2] and policy.ends == (1,)


def test_the_model_samples_and_its_weights_are(tmp_path):
    with pytest.raises(NotFinite):
        load_sampler(job(tmp_path, "local"), "policy")
