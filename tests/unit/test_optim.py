"""One optimizer step: gradients are clipped to a norm or not at all, weights of matrices alone decay, and each update has its own rate."""

from __future__ import annotations

import json

import pytest
import torch

from opd_steps.loop.optim import apply_gradient, clip_gradient, learning_rate, make_optimizer
from tests.unit.test_train import OPTIM, run

PLAIN = OPTIM | {"schedule": "constant", "warmup": 0.0, "lr": 1.0}


@pytest.mark.parametrize(("clip", "moved"), [(0.0, [3.0, 4.0]), (10.0, [3.0, 4.0]), (1.0, [0.6, 0.8]), (2.5, [1.5, 2.0])])
def test_the_norm_is_that_before_clipping_and_zero_is_off(clip, moved):
    """Under plain descent at rate 1 the weights move by the clipped gradient itself."""
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    descent = torch.optim.SGD([weight], lr=9.0)
    assert clip_gradient(descent, PLAIN | {"clip": clip}) == pytest.approx(5.0)
    assert apply_gradient(descent, 1, 10, PLAIN) == {"lr": 1.0}
    assert (-weight).tolist() == pytest.approx(moved, rel=1e-5)


def test_only_matrices_decay():
    model = torch.nn.Linear(2, 2)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
            p.grad = torch.zeros_like(p)
    apply_gradient(make_optimizer(model, PLAIN), 1, 10, PLAIN | {"lr": 0.5})
    assert model.weight.tolist() == [[pytest.approx(1 - 0.5 * OPTIM["weight_decay"])] * 2] * 2 and model.bias.tolist() == [1, 1]


@pytest.mark.parametrize("minibatches", [1, 3])
def test_a_run_draws_the_rate_of_its_last_update_in_each_step(tmp_path, minibatches):
    run(tmp_path, steps=5, minibatches=minibatches)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    expected = [learning_rate(step * minibatches, 5 * minibatches, OPTIM) for step in range(1, 6)]
    assert [row["train/lr"] for row in rows] == pytest.approx(expected)
