"""Distillation in pretraining (arXiv 2605.23857): the mixed loss at every token of the corpus, and a teacher that is a milestone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from opd_steps.loop.objective import Objective
from opd_steps.models.packing import padded
from opd_steps.nouns.heard import woven
from tests.pipeline.stages import Stages
from tests.unit.opd_toys import SHAPE, read_weights
from tests.unit.test_loop_objective import gradients, policies, sample
from tests.unit.tiny import method


def mixed(alpha: float) -> dict:
    """As papers write it."""
    soft = {"signal": "fkl", "support": "full", "estimator": "exact", "coef": alpha}
    return soft | {"add": [{"estimator": "mle", "coef": 1 - alpha}], "prefix": "corpus"}


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0])
def test_the_gradient_is_that_of_the_mixed_loss(alpha):
    """(1 - alpha) CE(y, S) + alpha CE(T, S), mean over tokens, by ordinary autograd over whole logits."""
    student, teacher = policies()
    rows = sample(student).with_columns(logp=None)
    row = method(signal="fkl", support="full", estimator="exact", coef=alpha)
    row["add"] = [method(estimator="mle", coef=1 - alpha)]
    Objective.from_method(row, 6).backward(student, rows, {}, {"teacher": teacher}, micro_batch=3)
    mine = gradients(student.model)
    read = padded(rows.contexts, *woven(rows), 0, "cpu")
    tokens, at, owner = read.tokens_BL, read.at_N, read.row_N
    logp_NV = torch.log_softmax(student.model(tokens).logits[owner, at][:, : student.vocab], -1)
    with torch.no_grad():
        p_NV = torch.softmax(teacher.model(tokens).logits[owner, at][:, : student.vocab], -1)
    hard_N = -logp_NV.gather(-1, rows.action_N[:, None])[:, 0]
    soft_N = -(p_NV * logp_NV).sum(-1)
    ((1 - alpha) * hard_N + alpha * soft_N).mean().backward()
    for name, meant in gradients(student.model).items():
        torch.testing.assert_close(mine[name], meant, atol=2e-6, rtol=1e-4, msg=name)


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    stages = Stages(tmp_path_factory.mktemp("toys"))
    stages.run(
        "data",
        "data",
        source={"name": "arithmetic", "train": 40, "test": 6, "ood": 4},
        verifier={"name": "exact", "after": "="},
    )
    config = SHAPE | {"tie_word_embeddings": True}
    for seed, name in enumerate(("small", "large")):
        stages.run(name, "model", {"data": "data/data"}, seed, config=config)
    optim = {"lr": 0.01}
    parents = {"model": "model/large/seed1", "data": "data/data"}
    stages.run("base", "pretrain", parents, loss_on="all", steps=6, batch=5, optim=optim, keep={"early": 2})

    def distilled(name: str, alpha: float, teacher: str, **options):
        parents = {"student": "model/small", "teacher": teacher, "data": "data/data"}
        made = stages.run(name, "opd", parents, steps=4, prompts=5, optim=optim, method=mixed(alpha) | options)
        return SimpleNamespace(weights=read_weights(stages.results / f"p/opd/{name}/seed0"), **made)

    def plain(name: str, loss_on: str = "all"):
        parents = {"model": "model/small", "data": "data/data"}
        made = stages.run(name, "pretrain", parents, loss_on=loss_on, steps=4, batch=5, optim=optim)
        return SimpleNamespace(weights=read_weights(stages.results / f"p/pretrain/{name}/seed0"), **made)

    return SimpleNamespace(distilled=distilled, plain=plain)


def test_at_alpha_0_it_is_pretraining(toys):
    """The same text in the same order, as many tokens, the same schedule."""
    one, other = toys.distilled("zero", 0.0, "pretrain/base"), toys.plain("plain")
    for name, value in one.weights.items():
        torch.testing.assert_close(value, other.weights[name], atol=1e-5, rtol=1e-4, msg=name)
    assert one.metrics["train/tokens:mean"] == other.metrics["train/tokens:mean"]


def test_the_loss_may_be_on_the_response_alone(toys):
    prefix = {"name": "corpus", "loss_on": "response"}
    one, other = toys.distilled("short", 0.0, "pretrain/base", prefix=prefix), toys.plain("short", "response")
    for name, value in one.weights.items():
        torch.testing.assert_close(value, other.weights[name], atol=1e-5, rtol=1e-4, msg=name)


def test_teachers_are_milestones_of_one_run(toys):
    late, early = toys.distilled("late", 0.5, "pretrain/base"), toys.distilled("early", 0.5, "pretrain/base/seed0:early")
    assert not all(torch.equal(late.weights[name], value) for name, value in early.weights.items())
    assert early.facts["teacher"] != late.facts["teacher"]
