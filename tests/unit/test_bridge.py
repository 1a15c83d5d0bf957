"""The bridge between hidden states of two widths: principal directions of one, and the best reader of the other."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from opd_steps.config.asks import Asks
from opd_steps.errors import UserError
from opd_steps.nouns.hidden import HiddenStates
from opd_steps.nouns.teaching import Given
from opd_steps.objectives.estimators.hidden_mse import HiddenMSE
from opd_steps.objectives.evidence import Evidence
from opd_steps.teachers.bridge import BridgedTeacher, Moments
from opd_steps.teachers.sources.bridged import Bridged
from tests.unit.test_loop_objective import policies, sample
from tests.unit.test_teacher_checks import build
from tests.unit.toy_rows import ToyPool

DRAW = np.random.default_rng(0)
OWN = torch.tensor(DRAW.normal(size=(300, 7)) @ DRAW.normal(size=(7, 7)) + 1)
OTHER = torch.tensor(np.tanh(OWN.numpy() @ DRAW.normal(size=(7, 5))) + 0.1 * DRAW.normal(size=(300, 5)) + 2)


def moments(own=OWN, other=OTHER, at_once: int = 64) -> Moments:
    found = Moments()
    for i in range(0, len(own), at_once):
        found.add(own[i : i + at_once], other[i : i + at_once])
    return found


def test_the_basis_is_the_principal_one():
    basis = moments().basis(3)
    centred = (OTHER - OTHER.mean(0)).numpy()
    expected = np.linalg.svd(centred, full_matrices=False)[2][:3]
    torch.testing.assert_close(basis @ basis.T, torch.eye(3, dtype=torch.double))
    np.testing.assert_allclose(np.abs(basis.numpy() @ expected.T), np.eye(3), atol=1e-8)  # up to signs
    torch.testing.assert_close(moments(at_once=1000).basis(3).abs(), basis.abs())


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_the_reader_is_the_least_squares_one(rank):
    found = moments()
    basis = found.basis(rank)
    z = (OTHER - OTHER.mean(0)) @ basis.T
    expected = np.linalg.lstsq(OWN.numpy(), z.numpy(), rcond=None)[0].T
    np.testing.assert_allclose(found.reader(basis).numpy(), expected, rtol=1e-7, atol=1e-9)


def test_directions_that_the_student_never_shows_are_read_as_nothing():
    flat = OWN.clone()
    flat[:, 5:] = flat[:, :2]  # rank 5 of 7: many readers are as good, the smallest is taken
    found = moments(flat)
    reader = found.reader(found.basis(2))
    torch.testing.assert_close(reader[:, 5:], reader[:, :2])


def said(layers: dict) -> SimpleNamespace:
    return SimpleNamespace(device="cpu", dist=lambda rows, role, asks: HiddenStates({i: layers[i] for i in asks.hidden}))


def test_what_a_linear_map_explains_has_no_loss():
    """A student whose states are the teacher's in other words: worlds apart as they are, equal over the bridge."""
    turn = torch.linalg.qr(torch.tensor(DRAW.normal(size=(5, 5)))).Q
    own = (OTHER - OTHER.mean(0)) @ turn
    teacher = BridgedTeacher.over(said({4: OTHER, 5: OTHER}), {(1, 4): moments(own), (2, 4): moments(OWN)}, 5)
    p = teacher.dist(None, "teacher", Asks(hidden=frozenset({4})))
    loss = lambda states, plug, p=p: plug.loss(states, Evidence(torch.zeros(300).long(), p), None, None, None)[0].mean()
    mine = HiddenStates({1: own, 2: OWN})
    apart = loss(mine, HiddenMSE([4], [1]), HiddenStates({4: OTHER}))
    assert loss(mine, HiddenMSE([4], [1])) < 1e-10 < 1 < apart
    assert loss(mine, HiddenMSE([4], [2])) > 1e-3  # no linear map does it


def test_the_loss_is_that_of_the_two_projections():
    found = moments()
    teacher = BridgedTeacher.over(said({3: OTHER}), {(2, 3): found}, 2)
    p = teacher.dist(None, "teacher", Asks(hidden=frozenset({3})))
    basis = found.basis(2)
    own = OWN.clone().requires_grad_()
    loss_N, figures = HiddenMSE([3], [2]).loss(HiddenStates({2: own}), Evidence(torch.zeros(300).long(), p), None, None, None)
    z, read = (OTHER - OTHER.mean(0)) @ basis.T, OWN @ found.reader(basis).T
    torch.testing.assert_close(loss_N, (read - z).square().mean(-1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(figures["hidden_cosine"], torch.cosine_similarity(read, z), rtol=1e-4, atol=1e-6)
    loss_N.sum().backward()
    torch.testing.assert_close(own.grad, (read - z) @ found.reader(basis), rtol=1e-4, atol=1e-5)  # 2/r of it, r = 2


def test_it_is_made_of_the_students_own_samples():
    """The plug, on real models: the moments of all decision points of the student's samples, whatever the batches."""
    student, teacher = policies()
    pool, seen = ToyPool(), []
    play = pool.play
    pool.play = lambda policy, *args: seen.append((policy, play(policy, *args))) or seen[-1][1]
    made = Bridged(rank=3, prompts=5).teacher(Given("t", student, lambda: teacher, pool, pairs=((1, 2),)))
    (sampler, rows), found = seen[0], Moments()
    assert sampler is student and len(rows) == 5
    ask = lambda policy, layer: policy.dist(rows, asks=Asks(hidden=frozenset({layer}))).layers[layer].detach()
    found.add(ask(student, 1), ask(teacher, 2))
    torch.testing.assert_close(made.readers[1, 2].abs(), found.reader(found.basis(3)).float().abs(), rtol=1e-3, atol=1e-3)
    rows = sample(student)
    states = made.dist(rows, "t", Asks(hidden=frozenset({2})))
    assert states.layers[2].shape == (len(rows.action_N), 3) and not made.readers[1, 2].requires_grad


MSE = {"name": "hidden_mse", "layers": [1]}
WIDE = {"model": "two", "weights": "bridged"}
LEARNER = {"model": "student", "method": {"against": "wide", "estimator": MSE}}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teachers": {"wide": WIDE}, "method": {"against": "wide"}}, "tells hidden states alone"),
        (
            {"teachers": {"wide": WIDE}, "method": {"against": "wide", "support": "full", "estimator": "exact"}},
            "tells hidden states alone",
        ),
        (
            {"teachers": {"wide": {**WIDE, "engine": {"name": "vllm"}}}, "method": {"against": "wide", "estimator": MSE}},
            "use local",
        ),
        (
            {"teachers": {"wide": WIDE}, "method": {"against": "wide", "estimator": MSE}, "learners": {"b": LEARNER}},
            "not from b's",
        ),
        (
            {
                "teachers": {"wide": WIDE, "by": {"weights": {"name": "routed", "to": {"x": "wide"}}}},
                "method": {"against": "by", "estimator": MSE},
            },
            "no router",
        ),
    ],
)
def test_what_a_bridge_cannot_do_is_refused(options, message, tmp_path):
    build(tmp_path, teachers={"wide": WIDE}, method={"against": "wide", "estimator": MSE})
    with pytest.raises(UserError, match=message):
        build(tmp_path, **options)
