"""Rows of plugs: what they need, how they are built, and which are refused before anything runs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from opd_steps.config import plugs
from opd_steps.config.asks import Asks
from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.checks.method_rules import LIVE, Answer, check_stream
from opd_steps.graph.method import Term
from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import build
from tests.unit.objectives_toys import close, draw

TOPK = {"name": "teacher_topk", "k": 4}
TEACHER = {"teacher": LIVE}


def row(**options) -> dict:
    return merge(Term, options, "paper.yaml.method")


def scores(topk: int = 0) -> dict[str, Answer]:
    """A teacher of whom a scores table is all that there is."""
    return {"teacher": Answer(full=False, topk=topk)}


def refusal(teachers: dict[str, Answer] = TEACHER, sampling: dict | None = None, **options) -> str:
    with pytest.raises(UserError) as error:
        check_stream(row(**options), "m", teachers, sampling)
    return str(error.value)


@pytest.mark.parametrize(
    ("options", "need", "topk"),
    [
        ({}, "sampled", 0),
        ({"baseline": "neg_kl"}, "full", 0),
        ({"baseline": "optimal"}, "full", 0),
        ({"estimator": "k2"}, "sampled", 0),
        ({"estimator": "mle"}, "none", 0),
        ({"signal": "outcome"}, "none", 0),
        ({"signal": "outcome", "weight": ["gap_mask"]}, "sampled", 0),
        ({"support": "full", "signal": "jsd", "estimator": "exact"}, "full", 0),
        ({"support": TOPK, "signal": "fkl", "estimator": "exact"}, "topk", 4),
        ({"support": {"name": "intersection", "k": 9, "norm": "renormalise"}, "estimator": "stop_grad"}, "topk", 9),
        ({"support": "student_topk"}, "full", 0),
        ({"support": "union"}, "full", 0),
    ],
)
def test_teacher_need(options, need, topk):
    options, sampled = row(**options), "baseline" in options  # the log-ratio of pg stands beside the baseline
    check_stream(options, "m", {} if need == "none" else TEACHER)
    asked = {"none": {}, "full": {"teacher": Asks(sampled=sampled, full=True)}}
    asked |= {"sampled": {"teacher": Asks(sampled=True)}, "topk": {"teacher": Asks(sampled=True, topk=topk)}}
    assert build(options).asks == asked[need]


def test_stream_applies_weights_and_coefficient():
    z, p = draw(0, n=8)
    action = torch.arange(8)
    q, evidence = Categorical.from_logits(z.requires_grad_()), Evidence(action, teacher=p)
    plain, stats = build(row()).loss(q, evidence)
    gap = (p.logp(action) - q.logp(action)).detach()
    close(plain, -gap * q.logp(action))
    close(stats["log_ratio"], gap)
    close(stats["advantage"], gap)
    masked, _ = build(row(weight=[{"name": "gap_mask", "max_gap": 1.0}], coef=0.5)).loss(q, evidence)
    close(masked, 0.5 * plain * (gap.abs() < 1))
    assert 0 < (gap.abs() < 1).sum() < 8


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "k3_clamped", "k3_plus", "mle"])
def test_sampled_estimators_refuse_sets(estimator):
    assert refusal(estimator=estimator, support="full").startswith(f"m.support: {estimator}")
    assert "has its own signal" in refusal(estimator=estimator, signal="jsd")
    assert "no baseline" in refusal(estimator=estimator, baseline="neg_kl")


@pytest.mark.parametrize("estimator", ["exact", "stop_grad", "clamped", "state_advantage"])
def test_set_estimators_refuse_the_sampled_action(estimator):
    assert refusal(estimator=estimator).startswith("m.support")
    assert "no baseline" in refusal(estimator=estimator, support="full", baseline="optimal")


def test_outcome_goes_with_pg_alone():
    for estimator in ("k1", "k2", "k3", "mle"):
        assert "only pg" in refusal(signal="outcome", estimator=estimator)
    assert "only pg" in refusal(signal="outcome", estimator="exact", support="full")
    assert "its baseline is none" in refusal(signal="outcome", baseline="neg_kl")
    assert "its support is sampled" in refusal(signal="outcome", support="full")


def test_ratio_rules():
    ratio = {"name": "pg", "ratio": "sampler"}
    check_stream(row(estimator=ratio), "m", TEACHER, {"top_p": 1.0, "temperature": 1.0})
    assert refusal(sampling={"top_p": 0.9}, estimator=ratio).startswith("m.estimator.ratio: with top_p < 1")
    assert "greedy" in refusal(sampling={"temperature": 0.0}, estimator=ratio)
    assert "sampled action alone" in refusal(estimator=ratio, support="full")
    for name in ("clip_low", "clip_high", "is_cap", "mask_low", "mask_high"):
        assert refusal(estimator={"name": "pg", name: 0.2}).startswith(f"m.estimator.{name}: ")
    assert "choose one" in refusal(estimator=ratio | {"clip_high": 0.2, "is_cap": 2.0})


def test_teacher_rules():
    assert refusal({}).endswith("this method asks a teacher, and there is none")
    check_stream(row(), "m", scores())
    check_stream(row(support=TOPK, estimator="exact"), "m", scores(4))
    assert refusal(scores(3), support=TOPK, estimator="exact").startswith("m.support.k: asks for the teacher's top 4")
    assert "the support full" in refusal(scores(99), support="full", estimator="exact")
    assert "the support student_topk" in refusal(scores(99), support="student_topk")
    assert "the baseline neg_kl" in refusal(scores(99), baseline="neg_kl")


def test_rules_import_no_torch():
    code = "import sys, opd_steps.graph.checks.method_rules; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=plugs.PACKAGE.parent, check=False).returncode == 0
