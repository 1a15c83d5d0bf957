"""What contexts and warm starts tell before training: the gain of a context, the limit of extrapolation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from opd_steps.analyses.context_gain import ContextGain
from opd_steps.analyses.context_lift import ContextLift
from opd_steps.analyses.extrapolation_limit import ExtrapolationLimit
from opd_steps.errors import UserError
from opd_steps.nouns.dist import Categorical
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.extrapolation_limit import fixed_point, limit, logit
from opd_steps.objectives.signals.rkl import ReverseKL
from opd_steps.teachers.contexts.peers import Peers
from opd_steps.teachers.contexts.plain import Plain
from tests.unit.analysis_toys import Bigram, Prompts, context


@dataclass
class Reader(Bigram):
    """Behind a context of more than the prompt, the first token is drawn from `told_V`."""

    told_V: torch.Tensor = None

    def dist(self, rows: Trajectory, role: str = "student") -> Categorical:
        logp_NV = super().dist(rows).logp_NV.clone()
        shown = rows.extra.get(f"context:{role}", rows.contexts)
        for i, (at, row) in enumerate(zip(rows.step_N.tolist(), rows.owner_N.tolist(), strict=True)):
            if at == 0 and len(shown[row]) > 1:
                logp_NV[i] = self.told_V
        return Categorical(logp_NV)


def test_a_context_that_points_to_right_answers_gains_on_them_alone():
    plain_V, told_V = torch.tensor([0.5, 0.5, 1e-12]).log(), torch.tensor([0.8, 0.2, 1e-12]).log()
    logits = torch.stack([torch.tensor([-60.0, -60.0, 0.0])] * 2 + [plain_V]).double()  # two tokens: one of 0 and 1, the end
    model = Reader(logits, told_V=told_V.double())
    pool = Prompts(40, lambda i, tokens: float(tokens[0] == 0), token=lambda i: 2)
    found = ContextGain(Peers(right=1, wrong=0), n=4).measure(context(pool, model=model))
    rows = context(pool, model=model).rollouts("model", 4)
    right_BN = rows.reward_B.view(-1, 4) > 0
    peers = right_BN.sum(1, keepdim=True) - right_BN.int() > 0  # a right sample among the others
    assert found["context/shown"] == pytest.approx(float(peers.double().mean()))
    assert found["context/gain_correct"] == pytest.approx(math.log(0.8 / 0.5) / 2)  # the end token gains nothing
    assert found["context/gain_wrong"] == pytest.approx(math.log(0.2 / 0.5) / 2)
    assert found["context/gap"] == pytest.approx(math.log(4) / 2)
    nothing = ContextGain(Plain(), n=4).measure(context(pool, model=model))
    assert nothing["context/shown"] == 0 and nothing["context/gain_correct"] is None


@dataclass
class Odd:
    """Tells the odd prompts to go on from another token."""

    token: int

    def prepare(self, rows: Trajectory, pool, seed: int, name: str) -> Trajectory:
        told = [[*c, self.token] if prompt % 2 else c for c, prompt in zip(rows.contexts, rows.prompt_B.tolist(), strict=True)]
        return rows.with_context(name, told)


def test_what_a_model_is_told_lifts_its_own_accuracy_where_it_reads_it():
    """The prompt's token leads to 0 or 1 alike, token 3 to 0, token 4 nowhere else than the prompt's; right answers begin with 0."""
    never, alike = -60.0, [0.0, 0.0, -60.0, -60.0, -60.0, -60.0]
    ends, zero = [never] * 5 + [0.0], [0.0] + [never] * 5
    model = Bigram(torch.tensor([ends, ends, alike, zero, alike, ends]))
    pool = Prompts(40, lambda i, tokens: float(tokens[0] == 0), token=lambda i: 2)
    found = ContextLift(Odd(3), n=4).measure(context(pool, model=model))
    rows = context(pool, model=model).rollouts("model", 4)
    alone = float((rows.reward_B[rows.prompt_B % 2 == 1] > 0).double().mean())
    expected = {"context/alone": alone, "context/told": 1.0, "context/lift": 1.0 - alone, "context/shown": 0.5}
    assert found == expected and 0.3 < alone < 0.7
    unread = ContextLift(Odd(4), n=4).measure(context(pool, model=model))
    assert unread["context/alone"] == alone and abs(unread["context/lift"]) < 0.2
    nothing = ContextLift(Plain(), n=4).measure(context(pool, model=model))
    assert nothing.pop("context/shown") == 0 and {*nothing.values()} == {None}


@pytest.mark.parametrize(("p", "b", "tail"), [(0.9, 0.5, 0.01), (0.95, 0.7, 0.001), (0.6, 0.55, 0.1)])
def test_the_limit_is_where_a_bernoulli_token_is_certain_but_for_the_tail(p, b, tail):
    """Exact reverse-KL descent of one binary token on the extrapolated target ends at 1 - tail for lam at its limit."""
    lam = limit(p, b, tail)
    teacher, start = (torch.tensor([x, 1 - x], dtype=torch.float64).log() for x in (p, b))
    target = lam * teacher + (1 - lam) * start
    z = torch.tensor([logit(b), 0.0], dtype=torch.float64, requires_grad=True)
    for _ in range(200):
        logq = z.log_softmax(0)
        (grad,) = torch.autograd.grad(ReverseKL().term(logq, target).sum(), z)
        scale = float((logq.detach().exp()).prod())  # the natural gradient: plain steps crawl at certainty
        z = (z - 0.2 * grad / scale).detach().requires_grad_()
    end = float(z.detach().softmax(0)[0])
    assert end == pytest.approx(1 - tail, abs=1e-9)
    assert end == pytest.approx(fixed_point(lam, p, b), abs=1e-9)


def test_the_limit_moves_as_the_paper_says():
    assert limit(0.8, 0.5, 0.01) > limit(0.9, 0.5, 0.01)  # a less sure teacher: later
    assert limit(0.9, 0.8, 0.01) > limit(0.9, 0.5, 0.01)  # a warm start closer to it (both below the limit's certainty): later
    assert limit(0.9, 0.5, 0.01) == pytest.approx(logit(0.99) / logit(0.9))
    for p, b, tail in ((0.5, 0.9, 0.1), (0.5, 0.5, 0.1), (1.0, 0.5, 0.1), (0.9, 0.5, 0.0)):
        with pytest.raises(ValueError, match="needs 0 < b < p < 1"):
            limit(p, b, tail)


def test_the_limit_is_measured_on_the_solutions():
    vocab, token = 16, ord("]") % 14
    tables = {"model": 0.6, "teacher": 0.9}
    policies = {}
    for role, p in tables.items():
        row = torch.full((vocab,), (1 - p) / (vocab - 1), dtype=torch.float64)
        row[token] = p
        policies[role] = Bigram(row.log().repeat(vocab, 1))
    found = ExtrapolationLimit(tail=0.01).measure(context(Prompts(3, lambda *_: 1.0), **policies))
    assert found["limit/p"] == pytest.approx(0.9) and found["limit/b"] == pytest.approx(0.6)
    assert found["limit/lam"] == pytest.approx(limit(0.9, 0.6, 0.01))
    back = ExtrapolationLimit().measure(
        context(Prompts(3, lambda *_: 1.0), model=policies["teacher"], teacher=policies["model"])
    )
    assert back["limit/lam"] is None
    with pytest.raises(UserError, match="no solution"):
        ExtrapolationLimit(token="!").measure(context(Prompts(3, lambda *_: 1.0), **policies))
