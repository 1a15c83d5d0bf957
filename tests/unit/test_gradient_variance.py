"""Variance of a method's gradient: on a table of logits whose samples are all there are, against sums by hand; fp64."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from opd_steps.analyses import gradient_variance
from opd_steps.analyses.gradient_variance import GradientVariance, Moments
from opd_steps.config.asks import NOTHING, Asks
from opd_steps.config.merge import merge
from opd_steps.graph.method import Method
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng
from tests.unit.analysis_toys import Bigram, Prompts, context, random_bigram, states
from tests.unit.tiny import FakeTokenizer, qwen

Q = torch.tensor([[2, 1, 1], [1, 2, 1], [1, 1, 2]], dtype=torch.float64) / 4  # multiples of 1/4: so many copies of a sequence
T = 2
POOL = Prompts(1, lambda i, tokens: float(tokens[0] == 0), vocab=3)
TEACHER = random_bigram(5, vocab=3)
BASELINES = {"none": {}, "neg_kl": {"baseline": "neg_kl"}, "optimal": {"baseline": "optimal"}}
BASELINES |= {"topk": {"baseline": {"name": "neg_kl", "support": "student_topk", "k": 2}}}
EXACT = {"signal": "rkl", "support": "full", "estimator": "exact"}


class Table(Bigram):
    """A bigram student with a gradient. Its k-th rollout says sequence k of all, each as often as its probability says."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__(Q.log(), max_new_tokens=T)
        self.model = nn.Embedding.from_pretrained(Q.log())
        copies = lambda y: round(float(Q[0, y[0]] * Q[y[0], y[1]]) * 4**T)
        self.left = [y for y in itertools.product(range(3), repeat=T) for _ in range(copies(y))]
        self.all = len(self.left)

    def rollout(self, contexts, prompt_ids, seeds, version: int = 0) -> Trajectory:
        rows = Trajectory(contexts, [torch.tensor(self.left.pop())] * len(contexts), torch.tensor(list(prompt_ids)))
        return rows.with_columns(logp=list(self.dist(rows).logp(rows.action_N).split(T)))

    def dist(self, rows: Trajectory, role: str = "student", asks: Asks = NOTHING) -> Categorical:
        return Categorical.from_logits(self.model(states(rows)))


class Asked(Bigram):
    """A teacher who is asked as one."""

    def dist(self, rows: Trajectory, role: str = "teacher", asks: Asks = NOTHING) -> Categorical:
        return super().dist(rows)


def checked(**methods) -> dict:
    return {name: merge(Method, {"aggregate": "seq_sum", **method}, name) for name, method in methods.items()}


def measured(monkeypatch, **methods) -> tuple[dict, dict[str, Tensor], int]:
    """(figures, mean gradient [V, V] by method, number of sequences), over all sequences of the table, a batch of one each."""
    kept = []
    keep = lambda model: kept.append(Moments(model)) or kept[-1]
    monkeypatch.setattr(gradient_variance, "Moments", keep)
    student = Table()
    ctx = context(POOL, model=student, teacher=Asked(TEACHER.logits_VV, T))
    ctx = type(ctx)(ctx.policies, ctx.pool, 0, checked(**methods))
    found = GradientVariance(batches=student.all, prompts=1).measure(ctx)
    return found, {name: moments.mean[0] for name, moments in zip(methods, kept, strict=True)}, student.all


def sequences(baseline_V: Tensor) -> tuple[Tensor, Tensor]:
    """Of all sequences from state 0: sum_t -A_t d log q(a_t), A = log p - log q - b(state), [M, V * V]; their probabilities, [M]."""
    reward_VV = TEACHER.logits_VV.log_softmax(-1) - Q.log()
    grads, weights = [], []
    for y in itertools.product(range(3), repeat=T):
        grad_VV, weight = torch.zeros(3, 3, dtype=torch.float64), 1.0
        for state, action in zip((0, *y), y, strict=False):
            score_V = -Q[state].clone()
            score_V[action] += 1
            grad_VV[state] -= (reward_VV[state, action] - baseline_V[state]) * score_V
            weight *= float(Q[state, action])
        grads.append(grad_VV.flatten())
        weights.append(weight)
    return torch.stack(grads), torch.tensor(weights, dtype=torch.float64)


def spread(grad_MW: Tensor, weight_M: Tensor) -> tuple[Tensor, float, float]:
    """Mean [W], total variance E|g - mean|^2, and E|g - mean|^4."""
    mean_W = weight_M @ grad_MW
    square_M = (grad_MW - mean_W).square().sum(1)
    return mean_W, float(weight_M @ square_M), float(weight_M @ square_M.square())


def test_over_all_sequences_the_variance_is_the_sum_by_hand_and_no_baseline_moves_the_mean(monkeypatch):
    found, means, m = measured(monkeypatch, **BASELINES)
    reward_VV = TEACHER.logits_VV.log_softmax(-1) - Q.log()
    values = {"none": torch.zeros(3, dtype=torch.float64), "neg_kl": (Q * reward_VV).sum(-1)}
    for name, baseline_V in values.items():
        mean_W, variance, _ = spread(*sequences(baseline_V))
        assert found[f"variance/{name}/trace"] * (m - 1) / m == pytest.approx(variance, rel=1e-6), name
        assert found[f"variance/{name}/norm"] == pytest.approx(float(mean_W.norm()), rel=1e-6)
        signal = float(mean_W.square().sum()) - found[f"variance/{name}/trace"] / m
        assert found[f"variance/{name}/snr"] == pytest.approx(signal / found[f"variance/{name}/trace"], rel=1e-6)
        torch.testing.assert_close(means[name].flatten(), mean_W, rtol=1e-6, atol=1e-9)
    for mean_VV in means.values():
        torch.testing.assert_close(mean_VV, means["none"], rtol=1e-6, atol=1e-9)
    traces = [found[f"variance/{name}/trace"] for name in BASELINES]
    assert len(set(traces)) == 4 and min(traces) > 0  # four estimators of one mean, not one


def test_a_sum_over_the_vocabulary_leaves_the_variance_of_the_states_alone(monkeypatch):
    """At one token the state is the prompt: the exact gradient does not vary at all, and it is the sampled one's mean."""
    found, means, _ = measured(
        monkeypatch, exact=EXACT, sampled={}, first={**EXACT, "weight": [{"name": "first_tokens", "length": 1}]}
    )
    torch.testing.assert_close(means["exact"], means["sampled"], rtol=1e-6, atol=1e-9)
    assert 0 < found["variance/exact/trace"] < found["variance/sampled/trace"]
    assert found["variance/first/trace"] < 1e-25 and found["variance/first/norm"] > 0.01


def test_moments_are_those_of_all_gradients_at_once():
    model, g_KV = nn.Linear(7, 1, bias=False).double(), torch.randn(9, 7, generator=torch.Generator().manual_seed(0)).double()
    moments = Moments(model)
    for g_V in g_KV + 1e6:  # a mean that would drown the variance in a difference of squares
        model.weight.grad = g_V[None]
        moments.take()
    found = moments.figures()
    assert found["trace"] == pytest.approx(float(g_KV.var(0).sum()), rel=1e-9) and model.weight.grad is None
    assert found["norm"] == pytest.approx(float((g_KV + 1e6).mean(0).norm()))
    still = Moments(model)
    for _ in range(3):
        still.take()  # a model that no loss reaches
    assert still.figures() == {"trace": 0.0, "norm": 0.0, "snr": None}


def models() -> dict[str, LMPolicy]:
    return {
        role: LMPolicy(qwen(seed=seed).requires_grad_(False), FakeTokenizer(24), max_new_tokens=5)
        for seed, role in enumerate(("model", "teacher"))
    }


def lm_figures(seed: int = 0, policies: dict | None = None, methods: dict | None = None, **options) -> dict:
    pool = Prompts(6, lambda i, tokens: float(sum(tokens) % 2), token=lambda i: i, vocab=24)
    ctx = context(pool, seed, **(policies or models()))
    ctx = type(ctx)(ctx.policies, ctx.pool, seed, checked(**(methods or {"sampled": {}, "exact": EXACT})))
    return GradientVariance(**{"batches": 4, "prompts": 3} | options).measure(ctx)


def test_measuring_changes_no_model_and_depends_on_seed_and_method_alone():
    policies = models()
    before = {name: p.clone() for name, p in policies["model"].model.named_parameters()}
    found = lm_figures(policies=policies)
    for name, p in policies["model"].model.named_parameters():
        assert torch.equal(p, before[name]) and p.grad is None and not p.requires_grad
    alone = lm_figures(methods={"exact": EXACT})
    assert alone == {key: found[key] for key in alone}  # the samples do not depend on who else is measured
    assert lm_figures(seed=1)["variance/exact/trace"] != found["variance/exact/trace"]
    split = lm_figures(micro_batch=2)
    assert split == {key: pytest.approx(value, rel=1e-3) for key, value in found.items()}


class Sampled(Table):
    """The same student, that samples."""

    def rollout(self, contexts, prompt_ids, seeds, version: int = 0) -> Trajectory:
        draw = lambda state, u: int((u > Q[state].cumsum(0)).sum())
        actions = [[first := draw(0, u), draw(first, v)] for u, v in (rng(seed).random(T) for seed in seeds)]
        return Trajectory(contexts, [torch.tensor(y) for y in actions], torch.tensor(list(prompt_ids)))


@pytest.mark.parametrize("rows", [1, 2])
def test_of_random_batches_the_trace_estimates_the_variance_of_a_batchs_mean(rows):
    """Within four standard errors, known from the enumeration: Var(trace) < E|g - mean|^4 / (m - 1) + trace^2 / m."""
    grad_MW, weight_M = sequences(torch.zeros(3, dtype=torch.float64))
    if rows == 2:
        grad_MW, weight_M = ((grad_MW[:, None] + grad_MW) / 2).flatten(0, 1), (weight_M[:, None] * weight_M).flatten()
    _, variance, fourth = spread(grad_MW, weight_M)
    ctx = context(POOL, 4, model=Sampled(), teacher=Asked(TEACHER.logits_VV, T))
    ctx, m = type(ctx)(ctx.policies, ctx.pool, 4, checked(none={})), 800
    found = GradientVariance(batches=m, prompts=rows).measure(ctx)["variance/none/trace"]
    assert abs(found - variance) < 4 * (fourth / (m - 1) + variance**2 / m) ** 0.5 < 0.4 * variance


def test_rows_of_other_sources_and_outcomes_are_measured_too():
    grpo = {"signal": "outcome", "estimator": {"name": "pg", "ratio": "sampler"}}
    mixed = {"add": [{"rows": "dataset", "estimator": "mle", "coef": 0.5}]}
    found = lm_figures(n=2, methods={"grpo": grpo, "off": {"prefix": "teacher"}, "mixed": mixed, "plain": {}})
    assert all(value > 0 for key, value in found.items() if key.endswith(("trace", "norm")))
    assert found["variance/off/trace"] != found["variance/plain/trace"] != found["variance/mixed/trace"]
