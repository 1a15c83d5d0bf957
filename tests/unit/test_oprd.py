"""Distillation of hidden states (OPRD, arXiv 2606.06021): its loss, what its gradient depends on, and what it never makes."""

from __future__ import annotations

import pytest
import torch

from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.method import Method
from opd_steps.graph.train_metrics import opd_curves
from opd_steps.loop.objective import Objective
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.nouns.hidden import HiddenStates
from tests.unit.made_tensors import Shapes, peak_bytes
from tests.unit.opd_toys import Killed, curve, node, run
from tests.unit.test_hidden_layers import states
from tests.unit.test_loop_objective import gradients, policies, sample
from tests.unit.tiny import FakeTokenizer, qwen

MSE = {"name": "hidden_mse", "layers": [1, 2]}
SAMPLED = {"signal": "log_ratio"}
FULL = {"signal": "rkl", "support": "full", "estimator": "exact"}


def objective(**options) -> Objective:
    return Objective.from_method(merge(Method, {"aggregate": "seq_mean", **options}, "test"), 6)


def update(student: LMPolicy, teacher: LMPolicy, rows, **options) -> tuple[dict, dict]:
    """(figures, gradients) of one backward pass."""
    micro_batch = options.pop("micro_batch", 64)
    stats = objective(**options).backward(student, rows, {}, {"teacher": teacher}, micro_batch)
    return stats, gradients(student.model)


@pytest.mark.parametrize("micro_batch", [2, 100])
@pytest.mark.parametrize("normalize", ["none", "l2"])
@pytest.mark.parametrize(("layers", "student_layers"), [([1, 2], []), ([2], []), ([0, 2, 1], [1, 1, 2])])
def test_the_loss_is_equation_6(layers, student_layers, normalize, micro_batch):
    """mean over rows of: 1/|L| sum_l 1/T sum_t 1/d |h_S - h_T|^2, T the last two tokens; and its gradient plain autograd's."""
    (student, teacher), k = policies(tie=False), 2
    rows = sample(student)
    (mine, _), loss = states(student, rows), 0.0
    with torch.no_grad():
        theirs, _ = states(teacher, rows)
    unit = lambda h: h / h.norm(dim=-1, keepdim=True) if normalize == "l2" else h
    for i, j in zip(student_layers or layers, layers, strict=True):
        gap_N = (unit(mine[i]) - unit(theirs[j])).pow(2).sum(-1) / 32
        loss = loss + sum(gap_T[-k:].mean() for gap_T in gap_N.split(rows.length_B.tolist())) / len(rows) / len(layers)
    loss.backward()
    expected = gradients(student.model)
    plug = {"name": "hidden_mse", "layers": layers, "student_layers": student_layers, "normalize": normalize}
    where = [{"name": "last_tokens", "tokens": k}]
    stats, found = update(student, teacher, rows, estimator=plug, where=where, micro_batch=micro_batch)
    assert stats["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert found.keys() == expected.keys() and "lm_head.weight" not in found
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-4, atol=1e-6, msg=name)


def test_equal_states_have_no_loss_and_no_gradient():
    student, _ = policies()
    stats, found = update(student, policies()[0], sample(student), estimator=MSE)
    assert stats["loss"] == 0 and stats["hidden_cosine"] == pytest.approx(1, abs=1e-6)
    assert all(grad.abs().max() == 0 for grad in found.values())


def test_given_the_prefix_the_gradient_knows_no_chance():
    """Whatever token is drawn at the end of a prefix, the gradient is the same, bit by bit; that of sampled OPD is another for each."""
    student, teacher = policies()
    rows = sample(student)
    drawn = lambda token: rows.with_columns(actions=[torch.cat([a[:-1], torch.tensor([token])]) for a in rows.actions])
    flat = lambda grads: torch.cat([g.flatten() for g in grads.values()])
    for method, alike in (({"estimator": MSE}, True), (SAMPLED, False)):
        first, *others = (flat(update(student, teacher, drawn(token), **method)[1]) for token in range(8))
        assert [torch.equal(first, other) for other in others] == [alike] * 7
    variance = torch.stack([flat(update(student, teacher, drawn(t), **SAMPLED)[1]) for t in range(8)]).var(0).sum()
    assert variance > 1e-3


def big(vocab: int, seed: int) -> LMPolicy:
    return LMPolicy(qwen(vocab, seed, tie=False).requires_grad_(seed == 0), FakeTokenizer(vocab), max_new_tokens=24)


def test_no_tensor_has_the_vocabularys_width():
    vocab = 1021
    student, teacher = big(vocab, 0), big(vocab, 1)
    rows = sample(student)
    made = {}
    for name, method in (("states", {"estimator": MSE}), ("both", {**FULL, "add": [{"estimator": MSE}]}), ("full", FULL)):
        with Shapes() as shapes:
            update(student, teacher, rows, **method)
        made[name] = {shape for shape in shapes.found if vocab in shape}
    weights = {(vocab, 32), (32, vocab)}  # of the head, and of the embedding with its gradient
    assert made["states"] <= weights and made["full"] - weights and made["both"] - weights


def test_an_update_holds_less_memory_than_one_on_probabilities():
    """As measured; also where these are looked at chunk by chunk, so that [N, V] never exists as a whole either."""
    vocab = 8192
    student, teacher = big(vocab, 0), big(vocab, 1)
    rows = sample(student, 24)
    held = {
        name: peak_bytes(lambda m=m: update(student, teacher, rows, **m))
        for name, m in (("states", {"estimator": MSE}), ("full", FULL))
    }
    whole = 4 * int(rows.length_B.sum()) * vocab
    print(held, "one [N, V]:", whole)
    embedding = 4 * vocab * 32  # its gradient is made by both
    assert held["states"] - embedding < whole < held["full"] - embedding


def test_curves_are_those_that_are_drawn(tmp_path):
    """Without a head nothing is known of entropy and of the sampler; beside a term that has one it is."""
    alone = {"estimator": {"name": "hidden_mse", "layers": [1]}, "aggregate": "seq_mean"}
    for name, method in (
        ("alone", alone),
        ("both", {**FULL, "aggregate": "seq_mean", "add": [{"estimator": alone["estimator"]}]}),
    ):
        found = run(tmp_path / name, method=method)
        drawn = {key.removeprefix("train/") for key in found.manifest["metrics"] if key.startswith("train/") and ":" not in key}
        known = set(opd_curves(node(method=method)))
        assert drawn == known and ("entropy" in known) == (name == "both")
        assert curve(found.metrics, "hidden_cosine" if name == "alone" else "add0_hidden_cosine")


def test_other_shapes_are_refused(tmp_path):
    wide = {"teacher": "model/wide/seed4"}
    with pytest.raises(UserError, match=r"width 16.*24.*bridged"):
        run(tmp_path / "width", parents=wide, method={"estimator": {"name": "hidden_mse", "layers": [1]}})
    with pytest.raises(UserError, match=r"layer 2 is asked of .*, which has 1"):
        run(tmp_path / "depth", method={"estimator": {"name": "hidden_mse", "layers": [2]}})
    with pytest.raises(UserError, match="layers"):
        node(method={"estimator": {"name": "hidden_mse", "layers": [1, 2], "student_layers": [1]}})


BRIDGE = {
    "parents": {"teacher": None, "reference": None, "teachers.wide.model": "model/wide/seed4"},
    "teachers": {"wide": {"weights": {"name": "bridged", "rank": 4, "prompts": 6}}},
    "method": {
        "against": "wide",
        "aggregate": "seq_mean",
        "estimator": {"name": "hidden_mse", "layers": [1, 3], "student_layers": [1, 1]},
    },
}


def test_a_bridge_teaches_across_widths_and_survives_a_kill(tmp_path):
    whole = run(tmp_path / "whole", **BRIDGE, steps=12)
    losses = curve(whole.metrics, "loss")
    assert sum(losses[-3:]) < sum(losses[:3])
    with pytest.raises(Killed):
        run(tmp_path / "broken", 7, **BRIDGE, steps=12)
    resumed = run(tmp_path / "broken", **BRIDGE, steps=12)
    assert resumed.metrics == whole.metrics
    assert all(torch.equal(resumed.weights[name], value) for name, value in whole.weights.items())


def test_hidden_states_are_no_probabilities():
    states = HiddenStates({1: torch.ones(5, 3), 2: torch.ones(5, 2)}, {(1, 1): torch.ones(3, 3)})
    assert len(states) == 5 and len(states.chunk(1, 3)) == 2 and states.chunk(1, 3).maps == states.maps
    assert states.entropy() is None
    with pytest.raises(ValueError, match="no action has a probability"):
        states.logp(torch.zeros(5).long())
