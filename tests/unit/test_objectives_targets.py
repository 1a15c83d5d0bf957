"""Targets beside the teacher itself, in fp64 on a small vocabulary: extrapolation beyond it, and bridges towards it.

Fact 7 of the list in test_objectives_tabular: the fixed point, lam = 1, and the threshold of one structural token.
"""

from __future__ import annotations

import math

import pytest
import torch

from opd_steps.config.asks import Asks
from opd_steps.errors import UserError
from opd_steps.nouns.dist import Categorical, Recorded
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import Stream
from tests.estimator_table.measure import stream
from tests.unit.objectives_toys import V, close, draw

EXACT = {"estimator": "exact", "support": "full"}


def beyond(lam: float, **options) -> Stream:
    return stream(target={"name": "extrapolate", "lam": lam}, **options)


def logit_gradient(term: Stream, z_NV: torch.Tensor, evidence: Evidence) -> torch.Tensor:
    z_NV = z_NV.clone().requires_grad_()
    loss_N, _ = term.loss(Categorical.from_logits(z_NV), evidence)
    return torch.autograd.grad(loss_N.sum(), z_NV)[0]


def mean_gradient(term: Stream, z_V: torch.Tensor, p_V: torch.Tensor, r_V: torch.Tensor) -> torch.Tensor:
    """The expectation over the sampled token, [V]."""
    many = lambda x: Categorical(x.expand(len(z_V), -1))
    evidence = Evidence(torch.arange(len(z_V)), teacher=many(p_V), others={"reference": many(r_V)})
    return z_V.softmax(-1) @ logit_gradient(term, z_V.expand(len(z_V), -1), evidence)


def descend(gradient, z: torch.Tensor, steps: int = 40) -> torch.Tensor:
    """Log-probs after natural-gradient steps of size 1/2 (the softmax's metric is diag(q)); the error halves with each."""
    for _ in range(steps):
        z = z - 0.5 * gradient(z) / z.softmax(-1)
    return z.log_softmax(-1)


@pytest.mark.parametrize(
    ("lam", "options"),
    [(0.5, {}), (1.0, {}), (1.25, {}), (1.6, {}), (1.25, {"baseline": "neg_kl"}), (1.6, {"estimator": "k2"})],
)
def test_extrapolation_ends_at_the_teacher_raised_beyond_the_reference(lam, options):
    """log S* = lam log P + (1 - lam) log R + const, by descent on the sampled losses' expected gradient."""
    z, p = draw(0, v=5, scale=0.7)
    _, r = draw(1, v=5, scale=0.7)
    term = beyond(lam, **options)
    found = descend(lambda z: mean_gradient(term, z, p.logp_NV[0], r.logp_NV[0]), z[0])
    close(found, (lam * p.logp_NV + (1 - lam) * r.logp_NV)[0].log_softmax(-1), 1e-8)


def test_the_exact_divergence_has_the_same_fixed_point():
    z, p = draw(2, v=5, scale=0.7)
    _, r = draw(3, v=5, scale=0.7)
    evidence = Evidence(torch.zeros(1).long(), teacher=p, others={"reference": r})
    term = beyond(1.5, signal="rkl", **EXACT)
    found = descend(lambda z: logit_gradient(term, z, evidence), z)
    close(found, (1.5 * p.logp_NV - 0.5 * r.logp_NV).log_softmax(-1), 1e-8)


def test_the_advantage_is_the_published_one_and_lam_1_is_vanilla_to_the_bit():
    z, p = draw(4, n=V)
    _, r = draw(5, n=V)
    action, q = torch.arange(V), Categorical.from_logits(z)
    whole = Evidence(action, teacher=p, others={"reference": r})
    recorded = Evidence(
        action, teacher=Recorded(p.logp(action)), others={"reference": r}
    )  # scores from a file, the reference live
    expected = 1.25 * (p.logp(action) - r.logp(action)) - (q.logp(action) - r.logp(action))
    for evidence in (whole, recorded):
        close(beyond(1.25).loss(q, evidence)[1]["advantage"], expected)
    for one, vanilla in ((beyond(1.0), stream()), (beyond(1.0, signal="rkl", **EXACT), stream(signal="rkl", **EXACT))):
        assert torch.equal(logit_gradient(one, z, Evidence(action, teacher=p)), logit_gradient(vanilla, z, whole))
        assert "reference" not in one.asks
    asked = [beyond(1.25).asks["reference"], beyond(1.25, **EXACT).asks["reference"]]
    assert asked == [Asks(sampled=True), Asks(full=True)]


def logit(x: float) -> float:
    return math.log(x / (1 - x))


def threshold(p: float, b: float, tail: float) -> float:
    """lam at which the fixed point of one binary token leaves `tail` of its mass to the other value."""
    return (logit(1 - tail) - logit(b)) / (logit(p) - logit(b))


@pytest.mark.parametrize(("p", "b", "tail"), [(0.9, 0.7, 0.05), (0.95, 0.6, 0.02), (0.8, 0.5, 0.1)])
def test_the_threshold_of_a_structural_token(p, b, tail):
    """The Bernoulli student comes to rest at 1 - tail exactly at lam*, below it before, above it beyond."""
    pair = lambda x: torch.tensor([math.log(1 - x), math.log(x)], dtype=torch.float64)
    ends = {}
    for shift in (-0.1, 0.0, 0.1):
        term = beyond(threshold(p, b, tail) + shift)
        ends[shift] = float(descend(lambda z, t=term: mean_gradient(t, z, pair(p), pair(b)), pair(b))[1].exp())
    assert ends[0.0] == pytest.approx(1 - tail, abs=1e-8)
    assert ends[-0.1] < ends[0.0] < ends[0.1]
    assert threshold(p, 0.5, tail) == pytest.approx(logit(1 - tail) / logit(p))  # a neutral start


def test_taid_starts_at_the_student_and_veto_never_asks_what_the_student_deems_impossible():
    z, p = draw(7, n=6)
    evidence = Evidence(torch.zeros(6).long(), teacher=p)
    close(logit_gradient(stream(target={"name": "taid", "t": 0.0}, signal="fkl", **EXACT), z, evidence), torch.zeros_like(z))
    # forward KL to Q = p q^beta / Z, Q detached: gradient q - Q, for any t or beta
    for target, log_weight in (
        ({"name": "taid", "t": 0.4}, 0.6 * z.log_softmax(-1) + 0.4 * p.logp_NV),
        ({"name": "veto", "beta": 0.5}, p.logp_NV + 0.5 * z.log_softmax(-1)),
    ):
        found = logit_gradient(stream(target=target, signal="fkl", **EXACT), z, evidence)
        close(found, z.softmax(-1) - log_weight.softmax(-1))
    z[:, 0] = -60.0
    sure = Categorical.from_logits(torch.tensor([8.0] + [0.0] * (V - 1), dtype=torch.float64).expand(6, V))
    evidence = Evidence(torch.zeros(6).long(), teacher=sure)
    plain, vetoed = (logit_gradient(stream(target=t, signal="fkl", **EXACT), z, evidence)[:, 0] for t in ("teacher", "veto"))
    assert (plain < -0.9).all() and (vetoed.abs() < 1e-8).all()


@pytest.mark.parametrize(("name", "key", "value"), [("taid", "t", 1.5), ("veto", "beta", -1.0)])
def test_targets_refuse_what_is_no_share(name, key, value):
    with pytest.raises(UserError, match=rf"target.*\b{key}\b.*{value}"):
        stream(target={"name": name, key: value}, **EXACT)
