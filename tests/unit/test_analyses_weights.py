"""Analyses of weights: known updates, and their closed forms."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from opd_steps.analyses._context import Context
from opd_steps.analyses._weights import matrices, module_of
from opd_steps.analyses.direction import Direction
from opd_steps.analyses.update import Update, smallest_overlap, spectrum
from opd_steps.errors import UserError
from tests.unit.tiny import qwen

LAYER = "model.layers.0."


def context(**models) -> Context:
    return Context({role: SimpleNamespace(model=model) for role, model in models.items()}, None, 0)


def moved(seed: int = 0, **by_name) -> torch.nn.Module:
    """The model of `seed` with something added to some parameters (names with __ for dots)."""
    model = qwen(seed=seed)
    with torch.no_grad():
        for name, change in by_name.items():
            parameter = model.get_parameter(name.replace("__", "."))
            parameter.add_(change)
    return model


@torch.no_grad()
def test_an_update_of_one_known_matrix():
    base = qwen()
    shape = base.get_parameter(LAYER + "mlp.up_proj.weight").shape
    change = torch.zeros(shape)
    change[3, 5], change[4, 6] = 3.0, -4.0  # singular values 4 and 3
    found = Update().measure(context(model=moved(model__layers__0__mlp__up_proj__weight=change), other=base))
    assert set(found) == set(Update.METRICS)
    n = sum(p.numel() for p in base.parameters())
    weights = math.sqrt(sum(float(p.double().square().sum()) for p in base.parameters()))
    rank2 = math.exp(-(4 / 7 * math.log(4 / 7) + 3 / 7 * math.log(3 / 7)))
    expected = {"norm": 5, "relative_norm": 5 / weights, "stable_rank": 25 / 16, "effective_rank": rank2, "top1_share": 4 / 5}
    expected |= {"share_mlp": 1, "share_attention": 0, "share_embedding": 0, "share_norm": 0, "share_rest": 0}
    expected |= {name.removeprefix("update/"): (n - 2) / n for name in Update.METRICS if "sparsity" in name}
    for name, value in expected.items():
        assert found[f"update/{name}"] == pytest.approx(value, rel=1e-5), name


@torch.no_grad()
def test_rounding_to_bfloat16_hides_small_updates():
    base = moved(model__norm__weight=0.0)
    base.get_parameter("model.norm.weight").fill_(1.0)
    model = qwen()
    model.get_parameter("model.norm.weight").fill_(1.002)  # bfloat16 knows 1 and 1.0078125
    n, k = sum(p.numel() for p in base.parameters()), base.get_parameter("model.norm.weight").numel()
    found = Update().measure(context(model=model, other=base))
    assert found["update/sparsity_rel1e-3"] == pytest.approx((n - k) / n)
    assert found["update/sparsity_rel1e-2"] == found["update/bf16_sparsity_abs1e-8"] == 1
    assert found["update/share_norm"] == pytest.approx(1) and found["update/stable_rank"] is None  # no matrix moved


@torch.no_grad()
def test_no_update_has_no_shape():
    found = Update().measure(context(model=qwen(), other=qwen()))
    assert found["update/norm"] == 0 and found["update/sparsity_abs1e-8"] == 1
    assert found["update/share_mlp"] is None and found["update/smallest_overlap"] is None


def test_spectra_of_rank_one_and_of_a_rotation():
    u, v = torch.randn(2, 150, generator=torch.Generator().manual_seed(0))
    one = spectrum(torch.outer(u, v))
    assert [one[k] for k in ("stable_rank", "top1_share")] == pytest.approx([1, 1]) and one["effective_rank"] < 1.01
    flat = spectrum(torch.eye(200) * 3)  # two directions are 1 % of 200
    assert [flat[k] for k in ("stable_rank", "effective_rank", "top1_share")] == pytest.approx([200, 200, 0.1])


def test_overlap_with_the_smallest_weights():
    w = torch.arange(1.0, 101).reshape(10, 10)
    assert smallest_overlap(w, 1 / w, 0.1) == 1  # the smallest move most
    assert smallest_overlap(w, w, 0.1) == 0
    assert smallest_overlap(w, w.flip(0), 1.0) == 1
    generator = torch.Generator().manual_seed(1)
    draws = [smallest_overlap(*torch.randn(2, 40, 40, generator=generator), 0.1) for _ in range(50)]
    assert sum(draws) / 50 == pytest.approx(0.1, abs=4 * math.sqrt(0.1 * 0.9 / 160 / 50))  # four standard errors


def test_modules_by_name():
    names = {"attention": ["self_attn.q_proj.weight", "h.0.attn.c_attn.weight"], "mlp": ["mlp.experts.gate_up_proj"]}
    names |= {"norm": ["self_attn.q_norm.weight", "input_layernorm.weight", "h.0.ln_1.weight"], "rest": ["mixer.A_log"]}
    names |= {"embedding": ["model.embed_tokens.weight", "lm_head.weight", "transformer.wte.weight"]}
    assert {n: module_of(n) for found in names.values() for n in found} == {n: k for k, ns in names.items() for n in ns}
    assert [m.shape for m in matrices(torch.zeros(4, 2, 3))] == [(2, 3)] * 4 and matrices(torch.zeros(5)) == []


@torch.no_grad()
def test_directions():
    a, b = torch.zeros(2, 64, 32)
    a[0, 0], b[0, 0], b[1, 1] = 1.0, 1.0, 1.0
    base = qwen()
    up = "model__layers__0__mlp__up_proj__weight"
    found = Direction().measure(context(model=moved(**{up: a}), peer=moved(**{up: b}), other=base))
    assert set(found) == set(Direction.METRICS)
    for name in ("cosine", "matrix_mean", "mlp", "length_ratio"):
        assert found[f"direction/{name}"] == pytest.approx(1 / math.sqrt(2), rel=1e-6)
    assert found["direction/attention"] is None
    model = qwen(seed=1)
    same = Direction().measure(context(model=model, peer=model, other=base))
    assert [same[f"direction/{n}"] for n in ("cosine", "matrix_mean", "embedding")] == pytest.approx([1, 1, 1])
    back = Direction().measure(context(model=moved(**{up: a}), peer=moved(**{up: -3 * a}), other=base))
    assert back["direction/cosine"] == pytest.approx(-1) and back["direction/length_ratio"] == pytest.approx(1 / 3)


def test_another_architecture_is_refused():
    with pytest.raises(UserError, match=r"analyze.other: its weights are not those of the model: model.layers.2"):
        Update().measure(context(model=qwen(layers=3), other=qwen()))
