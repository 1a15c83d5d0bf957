"""Hidden states of layers as something to be asked for: what they are, and a loss on them that reaches the weights below."""

from __future__ import annotations

import pytest
import torch

from opd_steps.config.asks import Asks
from opd_steps.loop import chunked
from opd_steps.loop.objective import Objective
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.models.packing import padded
from opd_steps.nouns.heard import woven
from opd_steps.objectives.stream import Stream
from tests.unit.test_loop_objective import gradients, policies, sample

MINE, THEIRS = frozenset({0, 1, 2}), frozenset({1, 2})


class Match:
    """sum over layers of |student's hidden state - teacher's|^2, and with `words` the sampled token's log-prob beside it."""

    WIDE = False

    def __init__(self, words: bool):
        self.words = words

    def loss(self, q, evidence, support, signal, baseline):
        loss_N = sum((q.layers[i] - evidence.teacher.layers[j]).square().sum(-1) for i, j in ((0, 1), (1, 2), (2, 2)))
        loss_N = loss_N - q.logp(evidence.action_N) if self.words else loss_N
        return loss_N, {"gap": loss_N.detach()}


def objective(words: bool) -> Objective:
    asks = {"student": Asks(hidden=MINE), "teacher": Asks(hidden=THEIRS)}
    return Objective((Stream(None, None, Match(words), None, asks=asks),), "token_mean")


def states(policy: LMPolicy, rows) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    read = padded(rows.contexts, *woven(rows), 0, "cpu")
    tokens, at, row = read.tokens_BL, read.at_N, read.row_N
    out = policy.model(tokens, output_hidden_states=True)
    return tuple(h[row, at] for h in out.hidden_states), torch.log_softmax(out.logits[row, at][:, : policy.vocab], -1)


def test_they_are_the_models_own_layers():
    student, _ = policies()
    rows = sample(student)
    dist, (expected, _) = student.dist(rows, asks=Asks(hidden=MINE)), states(student, rows)
    assert dist.layers.keys() == set(MINE) and len(expected) == 3
    for i in MINE:
        torch.testing.assert_close(dist.layers[i], expected[i])
        torch.testing.assert_close(dist.chunk(2, 5).layers[i], expected[i][2:5])
    assert student.dist(rows).layers == {}


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("micro_batch", [2, 100])
def test_the_gradient_is_plain_autograds(tie, words, micro_batch, monkeypatch):
    monkeypatch.setattr(chunked, "decisions", lambda vocab, cuda: 16)
    student, teacher = policies(tie)
    rows = sample(student)
    mine, logq = states(student, rows)
    with torch.no_grad():
        theirs, _ = states(teacher, rows)
    loss_N = sum((mine[i] - theirs[j]).square().sum(-1) for i, j in ((0, 1), (1, 2), (2, 2)))
    if words:
        loss_N = loss_N - logq.gather(-1, rows.action_N[:, None])[:, 0]
    loss_N.mean().backward()
    expected = gradients(student.model)
    stats = objective(words).backward(student, rows, {}, {"teacher": teacher}, micro_batch)
    found = gradients(student.model)
    assert stats["loss"] == pytest.approx(float(loss_N.detach().mean()), rel=1e-5)
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-5, msg=name)
    reached = {name for name, grad in found.items() if grad.abs().max() > 0}
    assert ("lm_head.weight" in reached) == (words and not tie) and "model.layers.0.mlp.up_proj.weight" in reached
