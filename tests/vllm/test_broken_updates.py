"""Models that do not fit, rows that just do, and updates that break off: the engine answers nothing more, and says which step it was."""

from __future__ import annotations

import pytest
import torch

from opd_steps.errors import UserError
from opd_steps.models.folder import where
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.rollout.vllm_engine import VllmEngine
from tests.pipeline.stages import save_checkpoint
from tests.vllm.conftest import engine_options, policy_of


def broken_shape(model):
    return {name: weight[:, :8] if "q_proj" in name else weight for name, weight in model.state_dict().items()}


class Interrupted(dict):
    """Weights of which the last ones never come."""

    def items(self):
        for i, item in enumerate(super().items()):
            if i == 6:
                raise ConnectionError("the trainer went away")
            yield item


def test_heads_that_no_kernel_has_are_refused(tmp_path):
    save_checkpoint(tmp_path / "model", head_dim=16)
    with pytest.raises(UserError, match=r"on a CPU vLLM takes heads of 32, 64, .*model has 16: use local"):
        VllmEngine(str(tmp_path / "model"), engine_options(), "float32", [1])


def test_rows_as_long_as_the_model_are_scored(tmp_path):
    """Though vLLM is asked for a token behind them, for which the model has no place."""
    save_checkpoint(tmp_path / "model", head_dim=32, max_position_embeddings=22)
    engine = VllmEngine(str(tmp_path / "model"), engine_options(max_model_len=0), "float32", [1])
    row, policy = list(range(10, 32)), policy_of(tmp_path)
    logp, *_ = engine.score([row], [1], 0)
    dist = policy.dist(Trajectory([row[:1]], [torch.tensor(row[1:])], torch.arange(1)))
    expected_N = dist.chunk(0, len(dist)).logp_NV.gather(-1, torch.tensor(row[1:])[:, None])[:, 0]
    assert engine.limit == 22 and float((logp[0] - expected_N).abs().max()) < 1e-4
    engine.close()


@pytest.mark.parametrize("weights", [broken_shape, lambda model: Interrupted(model.state_dict())])
def test_nothing_is_answered_after_it(checkpoints, weights, monkeypatch):
    policy = policy_of(checkpoints["tied"])
    engine = VllmEngine(where(checkpoints["tied"]), engine_options(), "float32", policy.ends, learns=True)
    monkeypatch.setattr(engine, "weights", weights)
    with pytest.raises(UserError, match="vLLM did not take the weights of step 1: "):
        engine.sync(policy.model, 1)
    with pytest.raises(RuntimeError, match="nothing it says can be trusted"):
        engine.score([[1, 2, 3]], [1], 0)
    assert engine.version is None
    engine.close()
    assert torch.is_grad_enabled()
