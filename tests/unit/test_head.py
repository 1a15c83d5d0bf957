"""The vocabulary head: every kind of signal gets the gradient of the plain exact loss, whatever the chunks, tiles and dtype."""

from __future__ import annotations

import pytest
import torch

from opd_steps.loop import chunked
from opd_steps.loop.chunked import chunked_sum
from opd_steps.nouns.dist import Categorical, LazyCategorical, Recorded
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import build
from opd_steps.objectives.supports import _selected
from tests.unit.tiny import method

N, D, V, KNOWN = 70, 12, 97, 90
ROWS = {
    "rkl": {"support": "full", "signal": "rkl", "estimator": "exact"},
    "fkl": {"support": "full", "signal": "fkl", "estimator": "exact"},
    "jsd": {"support": "full", "signal": "jsd", "estimator": "exact"},
    "skew": {"support": "full", "signal": "skew", "estimator": "exact"},
    "mix": {"support": "full", "signal": "mix", "estimator": "exact"},
    "power": {"support": "full", "signal": "power", "estimator": "pg"},
    "neg_kl": {"support": "sampled", "baseline": "neg_kl"},
    "sampled": {"support": "sampled"},
    "student_topk": {"support": {"name": "student_topk", "norm": "tail"}, "signal": "rkl", "estimator": "exact"},
    "teacher_topk": {"support": {"name": "teacher_topk", "norm": "renormalise"}, "signal": "fkl", "estimator": "exact"},
    "mle": {"support": "sampled", "estimator": "mle"},
}


def heads(dtype: torch.dtype = torch.float32, temperature: float = 0.8, bias: bool = True) -> tuple[LazyCategorical, ...]:
    """(student, teacher) on the same decision points; the student's tensors are leaves."""
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator).to(dtype)
    student = [draw(N, D), draw(V, D), draw(V) if bias else None]
    for leaf in filter(lambda x: x is not None, student):
        leaf.requires_grad_()
    teacher = LazyCategorical(draw(N, D), draw(V, D), None, temperature, KNOWN)
    return LazyCategorical(*student, temperature, KNOWN), teacher


def loss_of(row: dict, teacher: LazyCategorical):
    stream = build(method(**row))
    action_N = torch.arange(N) % KNOWN
    weight_N = torch.linspace(0.5, 2.0, N)
    evidence = Evidence(action_N, teacher, owner_N=torch.arange(N), step_N=torch.zeros(N, dtype=torch.long))
    return lambda q, i, j: (weight_N[i:j] * stream.loss(q, evidence.chunk(i, j))[0]).sum()


def leaves(dist: LazyCategorical) -> list[torch.Tensor]:
    return [x for x in (dist.hidden_ND, dist.weight_VD, dist.bias_V) if x is not None]


@pytest.mark.parametrize("tile", [1 << 17, 64])
@pytest.mark.parametrize("name", ROWS)
def test_value_and_gradient_are_those_of_the_whole_distribution(name, tile, monkeypatch):
    student, teacher = heads()
    logits_NV = (student.hidden_ND @ student.weight_VD.T + student.bias_V)[:, :KNOWN]
    whole = loss_of(ROWS[name], teacher)(Categorical.from_logits(logits_NV, 0.8), 0, N)
    expected = torch.autograd.grad(whole, leaves(student))
    monkeypatch.setattr(chunked, "decisions", lambda vocab, cuda: 16)
    monkeypatch.setattr(_selected, "TILE", tile)
    value = chunked_sum(student, loss_of(ROWS[name], teacher))
    found = torch.autograd.grad(3 * value, leaves(student))
    torch.testing.assert_close(value, whole.detach(), rtol=1e-5, atol=1e-5)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, 3 * b, rtol=1e-4, atol=3e-5)


def test_a_frozen_head_gets_no_gradient_and_the_hidden_states_the_same():
    student, teacher = heads(bias=False)
    (with_head, _) = torch.autograd.grad(chunked_sum(student, loss_of(ROWS["rkl"], teacher)), leaves(student))
    student.weight_VD.requires_grad_(False)
    (alone,) = torch.autograd.grad(chunked_sum(student, loss_of(ROWS["rkl"], teacher)), [student.hidden_ND])
    assert torch.equal(alone, with_head)


def test_a_loss_without_the_student_has_a_value_and_no_gradient():
    student, _ = heads()
    value = chunked_sum(student, lambda q, i, j: torch.tensor(float(j - i)))
    assert value.item() == N
    assert all(not g.any() for g in torch.autograd.grad(value, leaves(student)))


def test_logits_themselves_get_their_gradient():
    student, teacher = heads()
    logits_NV = (student.hidden_ND @ student.weight_VD.T).detach().requires_grad_()
    lazy = LazyCategorical(logits_NV, None, None, 0.8, V)
    teacher = LazyCategorical(teacher.hidden_ND, teacher.weight_VD, None, 0.8, V)
    (found,) = torch.autograd.grad(chunked_sum(lazy, loss_of(ROWS["rkl"], teacher)), logits_NV)
    whole = loss_of(ROWS["rkl"], teacher)(Categorical.from_logits(logits_NV, 0.8), 0, N)
    torch.testing.assert_close(found, torch.autograd.grad(whole, logits_NV)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 3.0])  # the latter: logits of some ten, as trained models have
def test_bfloat16_weights_cost_half_a_percent_of_the_gradient_at_most(scale):
    """Against fp64 of the same rounded weights: products are summed in fp32 and logits stay fp32."""
    student, teacher = heads(torch.bfloat16, temperature=1.0, bias=False)
    with torch.no_grad():
        student.hidden_ND.mul_(scale)
    exact = [x.detach().double().requires_grad_() for x in leaves(student)]
    wide_teacher = LazyCategorical(teacher.hidden_ND.double(), teacher.weight_VD.double(), None, 1.0, KNOWN)
    whole = loss_of(ROWS["rkl"], wide_teacher)(Categorical.from_logits((exact[0] @ exact[1].T)[:, :KNOWN]), 0, N)
    expected = torch.autograd.grad(whole, exact)
    found = torch.autograd.grad(chunked_sum(student, loss_of(ROWS["rkl"], teacher)), leaves(student))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype is torch.bfloat16
        assert (a.double() - b).norm() / b.norm() < 0.005


def test_recorded_teachers_need_no_head():
    student, _ = heads()
    logp_NK, ids_NK = torch.full((N, 4), -2.0), torch.arange(4).expand(N, 4)
    recorded = Recorded(torch.full((N,), -1.0), ids_NK, logp_NK)
    row = {"support": {"name": "teacher_topk", "k": 4}, "signal": "fkl", "estimator": "exact"}
    chunked_sum(student, loss_of(row, recorded)).backward()
    assert student.weight_VD.grad[:KNOWN].abs().sum() > 0 and not student.weight_VD.grad[KNOWN:].any()
