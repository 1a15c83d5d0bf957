"""Which metrics a claim may name: those of its node's kind, of its evaluation, and of lm-eval's tasks that are asked for."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from opd_steps.errors import UserError
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.nodes import Graph

NODES = {
    "data": {"kind": "data"},
    "init": {"kind": "model", "data": "data", "config": {"hidden_size": 32}},
    "base": {"kind": "pretrain", "model": "init", "data": "data"},
    "teacher": {"kind": "rl", "policy": "base", "data": "data"},
    "rows": {"kind": "rollout", "policy": "base", "data": "data"},
}


def claims(folder, left: str, **options) -> Graph:
    evaluate = {"models": ["base"], "options": {"data": "data", **options}}
    paper = {"paper": {"title": "t"}, "nodes": NODES, "evaluate": evaluate}
    OmegaConf.save(paper | {"claims": [{"id": "c", "says": "s", "left": left, "right": 0.5}]}, folder / "toy.yaml")
    graph = checked(Graph([str(folder / "toy.yaml")]))
    wanted(graph)
    return graph


@pytest.mark.parametrize(
    ("left", "options"),
    [
        ("base.test/accuracy", {}),
        ("base.own/length", {}),
        ("base.own/reverse_kl", {"teacher": "teacher"}),
        ("base.train/loss:mean", {}),
        ("rows.rollout/kept", {}),
        ("base.gsm8k/exact_match", {"benchmarks": ["gsm8k"]}),
    ],
)
def test_what_will_be_measured_may_be_named(tmp_path, left, options):
    claims(tmp_path, left, **options)


@pytest.mark.parametrize(
    ("left", "options", "says"),
    [
        ("base", {}, "expected node.metric, found 'base'"),
        ("base.", {}, "expected node.metric, found 'base.'"),
        ("nobody.test/accuracy", {}, "this paper has no node 'nobody'"),
        ("base.own/reverse_kl", {}, "has no metric 'own/reverse_kl'"),
        ("base.gsm8k/exact_match", {"benchmarks": ["arc_easy"]}, "has no metric 'gsm8k/exact_match'"),
        ("base.test/avg_at_k", {"k": 0}, "has no metric 'test/avg_at_k'"),
        ("base.ood/accuracy", {}, "has no metric 'ood/accuracy'"),
        ("base.train/rewards", {}, "has no metric 'train/rewards'"),
        ("teacher.test/accuracy", {}, "'teacher' is not evaluated"),
    ],
)
def test_what_will_not_is_refused_with_its_place(tmp_path, left, options, says):
    with pytest.raises(UserError, match=r"toy\.yaml: claims\[0\]\.left: ") as caught:
        claims(tmp_path, left, **options)
    assert says in str(caught.value)
