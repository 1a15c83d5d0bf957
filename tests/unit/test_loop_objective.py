"""The objective over real models: equal to the plain exact form, whatever the chunks and micro-batches."""

from __future__ import annotations

import pytest
import torch

from opd_steps.config.asks import NOTHING, Asks
from opd_steps.loop import chunked
from opd_steps.loop.objective import Objective
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.packing import padded
from opd_steps.nouns.dist import Categorical, DiagGaussian, LazyCategorical
from opd_steps.nouns.heard import woven
from opd_steps.nouns.trajectory import Trajectory
from tests.unit.tiny import FakeTokenizer, method, qwen


def policies(tie: bool = True, vocab: int = 24, known: int = 20) -> tuple[LMPolicy, LMPolicy]:
    tokenizer = FakeTokenizer(known)
    teacher = LMPolicy(qwen(vocab, 1, tie).requires_grad_(False), tokenizer, max_new_tokens=6)
    return LMPolicy(qwen(vocab, 0, tie), tokenizer, max_new_tokens=6), teacher


def sample(policy: LMPolicy, rows: int = 7) -> Trajectory:
    contexts = [[1, 2, 3][: 1 + i % 3] for i in range(rows)]
    return policy.rollout(contexts, list(range(rows)), list(range(rows)), 0)


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def plain_rkl(student: LMPolicy, teacher: LMPolicy, rows: Trajectory) -> torch.Tensor:
    """Token-mean full-vocabulary reverse KL with ordinary autograd over whole logits."""
    read = padded(rows.contexts, *woven(rows), 0, "cpu")
    tokens, at, row = read.tokens_BL, read.at_N, read.row_N
    q = torch.log_softmax(student.model(tokens).logits[row, at][:, : student.vocab], -1)
    with torch.no_grad():
        p = torch.log_softmax(teacher.model(tokens).logits[row, at][:, : student.vocab], -1)
    return (q.exp() * (q - p)).sum(-1).mean()


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("micro_batch", [2, 100])
def test_gradient_equals_plain_autograd(tie, micro_batch, monkeypatch):
    monkeypatch.setattr(chunked, "decisions", lambda vocab, cuda: 16)
    student, teacher = policies(tie)
    rows = sample(student)
    loss = plain_rkl(student, teacher, rows)
    loss.backward()
    expected = gradients(student.model)
    objective = Objective.from_method(method(signal="rkl", support="full", estimator="exact"), 6)
    stats = objective.backward(student, rows, {}, {"teacher": teacher}, micro_batch=micro_batch)
    found = gradients(student.model)
    assert stats["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-6, msg=name)


def test_padded_vocabularies_are_sliced_to_the_tokenizer():
    student, _ = policies(vocab=32, known=20)
    _, teacher = policies(vocab=24, known=20)
    rows = sample(student, 20)
    assert max(int(a.max()) for a in rows.actions) < 20
    objective = Objective.from_method(method(signal="rkl", support="full", estimator="exact"), 6)
    assert objective.backward(student, rows, {}, {"teacher": teacher})["loss"] > 0
    torch.testing.assert_close(student.dist(rows).chunk(0, 3).logp_NV.exp().sum(-1), torch.ones(3))


def test_fresh_samples_have_no_gap_between_sampler_and_trainer():
    student, teacher = policies()
    stats = Objective.from_method(method(), 6).backward(student, sample(student), {}, {"teacher": teacher})
    assert stats["sampler_gap"] <= stats["sampler_gap_max"] < 1e-5 and abs(stats["sampler_kl"]) < 1e-5


def test_two_streams_add_up_and_the_reference_is_asked_only_when_needed():
    student, teacher = policies()
    rows = sample(student)
    objective = Objective.from_method(method(signal="rkl", support="full", estimator="exact", coef=2.0), 6)
    assert objective.asks() == {"teacher": Asks(full=True)}
    twice = objective.backward(student, rows, {}, {"teacher": teacher})
    grads = gradients(student.model)
    once = method(signal="rkl", support="full", estimator="exact")
    both = Objective.from_method({**once, "add": [{**once, "against": "reference"}]}, 6)
    assert both.asks() == {"teacher": Asks(full=True), "reference": Asks(full=True)}
    stats = both.backward(student, rows, {}, {"teacher": teacher, "reference": teacher})
    assert stats["loss"] == pytest.approx(twice["loss"], rel=1e-5)
    for name, grad in gradients(student.model).items():
        torch.testing.assert_close(grad, grads[name], rtol=1e-4, atol=1e-6)


class GaussianPolicy:
    """A one-step Gaussian policy: the loop's nouns are not about tokens."""

    device = torch.device("cpu")

    def __init__(self, mean: float):
        self.model = torch.nn.Linear(2, 2)
        with torch.no_grad():
            self.model.weight.zero_()
            self.model.bias.fill_(mean)

    def rollout(self, contexts, prompt_ids, seeds, version=0) -> Trajectory:
        generator = torch.Generator().manual_seed(seeds[0])
        with torch.no_grad():
            actions = [self.model(c) + torch.randn(c.shape, generator=generator) for c in contexts]
        rows = Trajectory(contexts, actions, torch.tensor(list(prompt_ids)))
        return rows.with_columns(logp=list(self.dist(rows).logp(torch.cat(actions)).detach().split(1)))

    def dist(self, trajectory: Trajectory, role: str = "student", asks: Asks = NOTHING) -> DiagGaussian:
        mean_ND = self.model(torch.cat(list(trajectory.contexts)))
        return DiagGaussian(mean_ND, torch.ones_like(mean_ND))


def test_the_same_objective_distils_a_gaussian_policy():
    student, teacher = GaussianPolicy(0.0), GaussianPolicy(0.5)
    contexts = [torch.zeros(1, 2)] * 20000
    rows = student.rollout(contexts, range(20000), [3])
    exact = Objective.from_method(method(signal="rkl", support="full", estimator="exact"), 1)
    stats = exact.backward(student, rows, {}, {"teacher": teacher}, micro_batch=30000)
    direct = gradients(student.model)["bias"]
    assert stats["loss"] == pytest.approx(2 * 0.5**2 / 2, rel=1e-5)
    torch.testing.assert_close(direct, torch.full((2,), -0.5))
    Objective.from_method(method(), 1).backward(student, rows, {}, {"teacher": teacher}, micro_batch=30000)
    torch.testing.assert_close(gradients(student.model)["bias"], direct, rtol=0.1, atol=0.03)


def test_lazy_chunks_are_the_whole():
    hidden, weight = torch.randn(40, 8), torch.randn(12, 8)
    whole = Categorical.from_logits(hidden @ weight[:10].T / 0.7)
    lazy = LazyCategorical(hidden, weight, None, 0.7, 10)
    torch.testing.assert_close(torch.cat([lazy.chunk(0, 17).logp_NV, lazy.chunk(17, 40).logp_NV]), whole.logp_NV)


def test_the_gap_to_another_sampler_is_measured():
    """Rows of one policy, trained on by another: mean and largest |difference|, and the estimate of KL(sampler || trainer)."""
    student, other = policies()
    rows = sample(other)
    stats = Objective.from_method(method(), 6).backward(student, rows, {}, {"teacher": other}, micro_batch=3)
    dist = student.dist(rows)
    gap_N = dist.chunk(0, len(dist)).logp(rows.action_N).detach() - rows.logp_N
    assert stats["sampler_gap"] == pytest.approx(float(gap_N.abs().mean()), rel=1e-5)
    assert stats["sampler_gap_max"] == pytest.approx(float(gap_N.abs().max()), rel=1e-5)
    assert stats["sampler_kl"] == pytest.approx(-float(gap_N.mean()), rel=1e-4) and stats["sampler_kl"] > 0.01
