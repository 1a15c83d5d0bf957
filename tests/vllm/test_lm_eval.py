"""lm-eval through the real vLLM gives the scores that it gives through transformers."""

from __future__ import annotations

import json

import pytest

from opd_steps.errors import UserError
from tests.pipeline.stages import Stages
from tests.vllm.conftest import FRESH, sums


def test_the_same_scores_as_through_hf(tmp_path):
    """Greedy answers token for token, and Avg@k within four standard errors: sampling draws differ."""
    stages = Stages(tmp_path / "results")
    sums(stages, train=600, test=60, ood=40)
    stages.run("start", "model", {"data": "data/data"}, config=FRESH | {"initializer_range": 0.05})
    stages.run("base", "pretrain", {"model": "model/start", "data": "data/data"}, steps=150, batch=32, optim={"lr": 1e-2})
    parents, found = {"model": "pretrain/base", "data": "data/data"}, {}
    with pytest.raises(
        UserError,
        match=r"evaluate\.options\.max_model_len: the longest row may have \d tokens of prompt and 24 of answer: expected",
    ):
        stages.run("cut", "evaluate", parents, max_new_tokens=24, backend="vllm", options={"max_model_len": 24})
    for backend, options in (("hf", {}), ("vllm", {"max_model_len": 128})):
        asked = {"splits": ["test", "ood"], "k": 8, "max_new_tokens": 24, "backend": backend, "options": options}
        found[backend] = stages.run(backend, "evaluate", parents, **asked)["metrics"]
    for split in ("test", "ood"):
        hf, vllm = (samples(stages, backend, split) for backend in ("hf", "vllm"))
        assert hf == vllm and len(hf) == {"test": 60, "ood": 40}[split]
        assert found["hf"][f"{split}/accuracy"] == found["vllm"][f"{split}/accuracy"]
    gap = found["hf"]["test/avg_at_k"] - found["vllm"]["test/avg_at_k"]
    assert 0.02 < found["hf"]["test/avg_at_k"] < 0.98
    assert abs(gap) < 4 * (2 * 0.25 / (60 * 8)) ** 0.5
    assert found["hf"]["own/entropy"] == found["vllm"]["own/entropy"]  # measured on the torch model either way


def samples(stages: Stages, backend: str, split: str) -> list[str]:
    """Greedy answers in order."""
    file = stages.results / f"p/evaluate/{backend}/seed0/samples/{split}.jsonl"
    return [json.loads(line)["greedy"] for line in file.read_text().splitlines()]
