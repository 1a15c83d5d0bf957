"""Equal sides: what a claim may compare, what each kind counts as steps, samples, lr, tokens and evaluation, and how a difference is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from opd_steps.errors import UserError
from opd_steps.graph.checked import checked, wanted
from opd_steps.graph.equal import unequal, unnamed
from opd_steps.graph.nodes import Graph

PAPER = """
paper: {title: T}
nodes:
  data: {kind: data}
  init: {kind: model, data: data, config: {hidden_size: 8}}
  base: {kind: pretrain, model: init, data: data, steps: 7, batch: 8}
  teacher: {kind: rl, policy: base, data: data}
  start: {kind: sft, student: init, data: data}
  traces: {kind: rollout, policy: teacher, data: data, sampling: {max_new_tokens: 24}}
  rollouts: {kind: rollout, policy: start, data: data, limit: 10, sampling: {max_new_tokens: 20}}
  scores: {kind: score, rollouts: rollouts, teacher: teacher}
  a: &opd
    {kind: opd, student: start, teacher: teacher, data: data, steps: 6, prompts: 8, sampling: {n: 2, max_new_tokens: 24}, optim: {lr: 1.0e-3}}
  b: {<<: *opd, OPTIONS}
  after: {<<: *opd, student: a, steps: 99}
  moved_a: {kind: analyze, model: a, other: start, analysis: update}
  moved_b: {kind: analyze, model: b, other: start, analysis: update}
  right_a: {kind: rollout, policy: a, data: data, split: test}
  right_b: {kind: rollout, policy: b, data: data, split: test}
evaluate: {models: [start, a, b, after], options: {data: data}}
claims: [{id: c, says: s, left: LEFT, op: ">", right: RIGHT, unequal: {UNEQUAL}}]
"""


def found(folder: Path, options: str = "", left="a.test/avg_at_k", right="b.test/avg_at_k", named="", more="") -> list[dict]:
    text = PAPER.replace("OPTIONS", options).replace("LEFT", f'"{left}"').replace("RIGHT", f'"{right}"')
    (folder / "toy.yaml").write_text(text.replace("UNEQUAL", named) + more)
    graph = checked(Graph([str(folder / "toy.yaml")]))
    wanted(graph)
    return unequal(graph, "toy", 0)


def line(folder: Path, *args, **kwargs) -> str:
    """The one that is told of what the claim does not name."""
    found(folder, *args, **kwargs)
    (told,) = unnamed(checked(Graph([str(folder / "toy.yaml")])))
    return told


OTHERWISE = {  # options of b -> what differs from a
    "steps: 12, prompts: 4": "steps: 6 against 12",
    "prompts: 4": "samples: 96 against 48",
    "sampling: {n: 1, max_new_tokens: 24}": "samples: 96 against 48",
    "optim: {lr: 2.0e-3}": "lr: 0.001 constant against 0.002 constant",
    "optim: {lr: 1.0e-3, schedule: linear, warmup: 0.1}": "lr: 0.001 constant against 0.001 linear, warm-up 0.1",
    "sampling: {n: 2, max_new_tokens: 12}": "tokens: 24 against 12",
    "controllers: [{name: linear, sets: sampling.max_new_tokens, first: 4, last: 24}]": "tokens: 24 against 24, moved by linear",
    "minibatches: 2": "steps: 6 against 12",
    "method: {add: [{rows: dataset, estimator: mle}]}": "samples: 96 against 192",
}
ALIKE = [
    "",
    "method: {baseline: neg_kl}",
    "prompts: 2, sampling: {n: 8, max_new_tokens: 24}",  # as many samples of fewer prompts
    "prompts: 4, method: {rows: teacher, signal: fkl, support: full, estimator: exact, add: [{rows: student}]}",  # two rows a prompt
    "buffer: {batches: 2, passes: 2}",  # as many rows, each written once for two steps
    "optim: {lr: 1.0e-3, weight_decay: 0.1}",
    "sampling: {n: 2, max_new_tokens: 12}, method: {prefix: dataset, signal: fkl, support: full, estimator: exact}",  # nobody writes
    "micro_batch: 2, checkpoint_every: 3",
]


@pytest.mark.parametrize("options", OTHERWISE)
@pytest.mark.parametrize("metrics", [("test/avg_at_k",) * 2, ("train/loss:mean",) * 2])
def test_a_difference_is_told_with_both_values_unless_it_is_named(tmp_path, options, metrics):
    left, right = (f"{node}.{metric}" for node, metric in zip("ab", metrics, strict=True))
    says = OTHERWISE[options]
    what = says.partition(":")[0]
    told = line(tmp_path, options, left, right)
    assert told.startswith(f"{tmp_path}/toy.yaml: claims[0]: 'c' compares {left} with {right} at unequal {says}. ")
    assert told.endswith(f"unequal: {{{what}: <why>}}")
    one, other = says.removeprefix(f"{what}: ").split(" against ")
    assert {"what": what, "left": one, "right": other, "why": None} in found(tmp_path, options, left, right)
    named = found(tmp_path, options, left, right, f"{what}: as meant")
    assert named == [{"what": what, "left": one, "right": other, "why": "as meant"}]
    assert unnamed(checked(Graph([str(tmp_path / "toy.yaml")]))) == []


@pytest.mark.parametrize("options", ALIKE)
def test_what_costs_the_same_is_equal(tmp_path, options):
    assert found(tmp_path, options) == []


def test_all_that_is_not_named_stands_in_one_line(tmp_path):
    told = line(tmp_path, "steps: 12, optim: {lr: 2.0e-3}", named="lr: as meant")
    assert "at unequal steps: 6 against 12; samples: 96 against 192. " in told and "lr" not in told.partition("at unequal")[2]


def test_what_is_named_and_equal_is_not_said(tmp_path):
    assert found(tmp_path, "", named="lr: at scale small") == []


@pytest.mark.parametrize(
    ("left", "right", "says"),
    [
        ("moved_a.update/sparsity_rel1e-2", "moved_b.update/sparsity_rel1e-2", "steps: 6 against 12"),
        ("right_a.rollout/accuracy", "right_b.rollout/accuracy", "steps: 6 against 12"),
        ("right_a.rollout/accuracy", "b.test/accuracy", "steps: 6 against 12"),
        ("after.test/accuracy", "b.test/accuracy", "steps: 99 against 12"),  # both from `start`: each by its own last training
    ],
)
def test_a_measurement_is_about_the_model_that_it_measures(tmp_path, left, right, says):
    assert f"at unequal {says}" in line(tmp_path, "steps: 12", left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("after.test/avg_at_k", "a.test/avg_at_k"),
        ("a.test/avg_at_k", "start.test/avg_at_k"),
        ("a.train/reward", "teacher.train/reward"),  # made with its help
        ("a.train/reward", "a.train/reward:first"),
        ("a.test/avg_at_k", "0.5"),
    ],
)
def test_a_model_and_what_it_is_made_from_need_not_cost_the_same(tmp_path, left, right):
    assert found(tmp_path, "steps: 12", left, right) == []


@pytest.mark.parametrize(
    ("left", "right", "differs"),
    [
        ("a.test/accuracy - start.test/accuracy", "b.test/accuracy - start.test/accuracy", True),
        ("a.test/accuracy - b.test/accuracy", "a.test/avg_at_k - b.test/avg_at_k", False),  # like against like
        ("a.test/accuracy - b.test/accuracy", "b.test/avg_at_k - a.test/avg_at_k", True),
        ("a.test/accuracy - b.test/accuracy", "0.1", True),
        ("a.test/accuracy - start.test/accuracy", "0.1", False),
        ("a.test/accuracy - start.test/accuracy", "b.test/accuracy", True),
    ],
)
def test_of_differences_like_is_held_against_like(tmp_path, left, right, differs):
    if differs:
        assert "at unequal steps: " in line(tmp_path, "steps: 12, prompts: 4", left, right)
    else:
        assert found(tmp_path, "steps: 12, prompts: 4", left, right) == []


KINDS = {  # what trains b in place of opd -> what differs from a's 6 steps of 16 rows, 24 tokens
    "kind: sft, student: start, data: traces, steps: 6, batch: 16, optim: {lr: 1.0e-3}": [],
    "kind: sft, student: start, data: data, steps: 6, batch: 8, optim: {lr: 1.0e-3}": ["samples"],  # texts have no cap
    "kind: rl, policy: start, data: data, steps: 3, prompts: 4, minibatches: 2, sampling: {n: 8, max_new_tokens: 24}": [],
    "kind: pretrain, model: init, data: data, steps: 6, batch: 16, optim: {lr: 2.0e-3}": ["lr"],
    "kind: opd, student: start, scores: scores, data: data, steps: 6, prompts: 16, optim: {lr: 1.0e-3}": [
        "tokens"
    ],  # rollouts': 20
}


@pytest.mark.parametrize("options", KINDS)
def test_each_kind_says_its_budget(tmp_path, options):
    said = "steps: x, samples: x, lr: x, tokens: x, evaluation: x"
    b = f"b: {{{options}, teacher_consistency: warn}}" if "scores" in options else f"b: {{{options}}}"
    text = PAPER.replace("b: {<<: *opd, OPTIONS}", b).replace("OPTIONS", "")
    text = text.replace("LEFT", "a.test/accuracy").replace("RIGHT", "b.test/accuracy").replace("UNEQUAL", said)
    (tmp_path / "toy.yaml").write_text(text)
    graph = checked(Graph([str(tmp_path / "toy.yaml")]))
    assert [each["what"] for each in unequal(graph, "toy", 0)] == KINDS[options]


def test_a_learner_has_the_rows_and_steps_of_its_node_and_a_rate_of_its_own(tmp_path):
    peer = "learners: {peer: {model: start, optim: {lr: 5.0e-3}, method: {signal: fkl, support: full, estimator: exact}}}"
    text = PAPER.replace("OPTIONS", peer).replace("[start, a, b, after]", "[a, b, 'b:peer']").replace("UNEQUAL", "lr: its own")
    (tmp_path / "toy.yaml").write_text(text.replace("LEFT", "'b:peer.test/accuracy'").replace("RIGHT", "a.test/accuracy"))
    graph = checked(Graph([str(tmp_path / "toy.yaml")]))
    assert [(each["what"], each["left"]) for each in unequal(graph, "toy", 0)] == [("lr", "0.005 constant")]


def test_a_milestone_cost_the_steps_before_it(tmp_path):
    text = PAPER.replace("OPTIONS", "steps: 12, keep: {half: 6}").replace("[start, a, b, after]", "[a, b, 'b:half']")
    for left, named, differs in (("b:half.test/accuracy", "", []), ("b.test/accuracy", "steps: x, samples: x", ["12", "192"])):
        edited = text.replace("UNEQUAL", named).replace("LEFT", f"'{left}'").replace("RIGHT", "a.test/accuracy")
        (tmp_path / "toy.yaml").write_text(edited)
        assert [each["left"] for each in unequal(checked(Graph([str(tmp_path / "toy.yaml")])), "toy", 0)] == differs


USER = """
paper: {title: U}
use: '{0}/toy.yaml'
nodes:
  mine: {kind: opd, student: start, teacher: teacher, data: data, steps: 6, prompts: 16, sampling: {max_new_tokens: 24}, optim: {lr: 1.0e-3}}
evaluate: {models: [mine], options: {max_new_tokens: 99, k: 3}}
claims: [{id: c, says: s, left: mine.test/avg_at_k, right: SIDE.test/avg_at_k}]
"""


@pytest.mark.parametrize("side", ["a", "start"])
def test_both_are_evaluated_alike_also_where_one_is_made_from_the_other(tmp_path, side):
    found(tmp_path)
    (tmp_path / "user.yaml").write_text(USER.replace("{0}", str(tmp_path)).replace("SIDE", side))
    (told,) = unnamed(checked(Graph([str(tmp_path / "user.yaml")])))
    assert "unequal evaluation: max_new_tokens 99, k 3 against max_new_tokens 32, k 8. " in told


@pytest.mark.parametrize(
    ("named", "right", "says"),
    [
        ("stepz: x", "b.test/avg_at_k", "claims[0].unequal.stepz: unknown name 'stepz'. Did you mean: 'steps'?"),
        ("steps: ''", "b.test/avg_at_k", "claims[0].unequal.steps: say why in a few words"),
        ("steps: [x]", "b.test/avg_at_k", "claims[0].unequal.steps: expected text"),
        ("steps: x", "0.5", "claims[0].unequal: this claim compares no two nodes; leave it out"),
        ("steps: x", "a.test/accuracy", "claims[0].unequal: this claim compares no two nodes; leave it out"),
    ],
)
def test_a_name_that_names_nothing_is_refused(tmp_path, named, right, says):
    with pytest.raises(UserError) as caught:
        found(tmp_path, right=right, named=named)
    assert f"toy.yaml: {says}" in str(caught.value)
