"""AdamW with moments in eight bits: its values, its rounding, its update by brute force, its bytes."""

from __future__ import annotations

import math

import pytest
import torch

from opd_steps.graph.cost.needs import EIGHT_BIT
from opd_steps.loop import adam8, checkpoint
from opd_steps.loop.adam8 import AdamW8, coded, dense, values
from opd_steps.loop.optim import gradient_variance, make_optimizer
from tests.unit.test_train import OPTIM
from tests.unit.tiny import qwen

CPU = torch.device("cpu")
HOW = {"lr": 0.01, "betas": (0.9, 0.95), "eps": 1e-8}


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("signed", [True, False])
def test_values_are_those_of_dynamic_trees(signed):
    found = values(signed, CPU)
    assert len(found.unique()) == 256 and found.equal(found.sort().values) and found[-1] == 1 and 0 in found
    positive = found[(found > 0) & (found < 1)]
    decades = (positive.log10().ceil() - 1).int().tolist()
    assert [decades.count(k) for k in range(-7, 0)] == [2 ** (k + 7 if signed else k + 8) for k in range(-7, 0)]
    assert (-found[found < 0]).flip(0).equal(positive) if signed else found.min() == 0


@pytest.mark.parametrize("columns", [7, 256, 300])
def test_numbers_become_the_nearest_value_of_their_block(columns):
    x = drawn(5, columns) * 10.0 ** torch.arange(-3, 2)[:, None]
    x[2] = 0
    codes, scales = coded(x, True)
    for r in range(5):
        for c in range(columns):
            block = x[r, c // 256 * 256 : c // 256 * 256 + 256]
            assert scales[r, c // 256] == block.abs().max()
            if r != 2:
                assert codes[r, c] == (values(True, CPU) - x[r, c] / scales[r, c // 256]).abs().argmin()
    assert (dense(codes, scales, True)[2] == 0).all()
    assert coded(x[1:2], True)[0].equal(codes[1:2])  # no row knows of another


def test_the_update_is_adamws_by_the_moments_before_they_are_rounded():
    p = torch.nn.Parameter(drawn(20, 300))
    weight, mean, square = p.detach().clone(), torch.zeros(20, 300), torch.zeros(20, 300)
    optimizer = AdamW8([{"params": [p], "weight_decay": 0.1}], **HOW)
    for t in range(1, 5):
        p.grad = drawn(20, 300, seed=t)
        optimizer.step()
        mean = 0.9 * mean + 0.1 * p.grad
        square = 0.95 * square + 0.05 * p.grad.square()
        weight = weight * (1 - 0.01 * 0.1)
        weight -= 0.01 * (mean / (1 - 0.9**t)) / ((square / (1 - 0.95**t)).sqrt() + 1e-8)
        torch.testing.assert_close(p.detach(), weight, atol=1e-6, rtol=1e-5)
        mean, square = dense(*coded(mean, True), True), dense(*coded(square, False), False)
        weight = p.detach().clone()
        for found, expected in zip(optimizer.moments(p), (mean, square), strict=True):
            assert (
                (found - expected).abs() > 1e-6 * expected.abs().max()
            ).float().mean() < 1e-3  # at most a tie, decided otherwise


def test_rows_by_rows_it_is_the_same(monkeypatch):
    def trained() -> torch.Tensor:
        p = torch.nn.Parameter(drawn(40, 300))
        optimizer = AdamW8([{"params": [p], "weight_decay": 0.1}], **HOW)
        for t in range(3):
            p.grad = drawn(40, 300, seed=t)
            optimizer.step()
        return p.detach()

    whole = trained()
    monkeypatch.setattr(adam8, "AT_ONCE", 900)
    assert trained().equal(whole)


def test_what_is_held_is_a_quarter_and_vectors_stay_fp32():
    p, small, vector = (torch.nn.Parameter(drawn(*shape)) for shape in ((64, 512), (8, 8), (512,)))
    optimizer = AdamW8([{"params": [p, small, vector], "weight_decay": 0.0}], **HOW)
    for x in (p, small, vector):
        x.grad = torch.ones_like(x)
    optimizer.step()
    size = lambda x: sum(v.numel() * v.element_size() for key, v in optimizer.state[x].items() if key != "step")
    assert size(p) == 2 * p.numel() + 2 * 64 * 2 * 4 and size(small) == 8 * small.numel() and size(vector) == 8 * vector.numel()
    assert size(p) == 2 * EIGHT_BIT * p.numel()  # as plan counts it


def test_weights_in_bf16_are_updated_in_fp32():
    p = torch.nn.Parameter(drawn(64, 64).bfloat16())
    start = p.detach().float()
    optimizer = AdamW8([{"params": [p], "weight_decay": 0.0}], **HOW)
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert p.dtype is torch.bfloat16 and p.detach().equal((start - 0.01).bfloat16())


def test_it_learns_as_adamw_does():
    x, truth = drawn(256, 64), drawn(64, 64, seed=1)

    def loss(eight_bit: bool) -> float:
        torch.manual_seed(0)
        model = torch.nn.Linear(64, 64, bias=False)
        optimizer = make_optimizer(model, OPTIM | {"lr": 0.02, "eight_bit": eight_bit})
        for _ in range(150):
            optimizer.zero_grad()
            found = (model(x) - x @ truth).square().mean()
            found.backward()
            optimizer.step()
        return float(found.detach())

    plain, rounded = loss(False), loss(True)
    assert rounded < 1.2 * plain and plain < 5


def test_a_checkpoint_gives_back_the_same_bytes_and_variance(tmp_path, monkeypatch):
    monkeypatch.setattr(adam8, "LEAST", 1)

    def fresh():
        model = qwen(seed=0)
        return model, make_optimizer(model, OPTIM | {"eight_bit": True})

    def update(model, optimizer, seed: int) -> None:
        for i, p in enumerate(model.parameters()):
            p.grad = drawn(*p.shape, seed=100 * seed + i)
        optimizer.step()

    model, optimizer = fresh()
    update(model, optimizer, 1)
    checkpoint.save(tmp_path, 1, {"": (model, optimizer)}, {})
    again, other = fresh()
    checkpoint.load(tmp_path, {"": (again, other)})
    assert any(v.dtype is torch.uint8 for v in other.state[next(again.parameters())].values())
    assert gradient_variance(other) == gradient_variance(optimizer) > 0
    for m, o in ((model, optimizer), (again, other)):
        update(m, o, 2)
    for (name, p), q in zip(model.named_parameters(), again.parameters(), strict=True):
        assert p.equal(q), name
        for key, value in optimizer.state[p].items():
            assert torch.equal(value, other.state[q][key]), (name, key)
    first, second = optimizer.moments(p)
    b1, b2 = 1 - OPTIM["betas"][0] ** 2, 1 - OPTIM["betas"][1] ** 2
    assert math.isfinite(float((second / b2 - (first / b1).square()).sum()))
