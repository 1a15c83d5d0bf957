"""A teacher that is several by turns: each row's distributions and gradient are those of its own teacher, heads and all."""

from __future__ import annotations

import pytest
import torch

from opd_steps.config.asks import Asks
from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.method import Method
from opd_steps.loop import chunked
from opd_steps.loop.objective import Objective
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.nouns.dist import Categorical, DiagGaussian, Recorded
from opd_steps.nouns.routed import Routed
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.teachers.router import Router
from opd_steps.teachers.view import ModelTeacher, View
from tests.unit.test_loop_terms import WINDOW, policies, rows_of
from tests.unit.tiny import FakeTokenizer, qwen
from tests.unit.toy_rows import VOCAB, ToyPool

FULL = {"signal": "rkl", "support": "full", "estimator": "exact"}


class Domains(ToyPool):
    def column(self, name: str, index: int) -> str:
        assert name == "domain"
        return "odd" if index % 2 else "even"


class Plain:
    def prepare(self, rows, pool, seed, name):
        return rows


def teachers() -> dict[str, LMPolicy]:
    """Two of one language: one head of 20 tokens that is its embedding, one of its own that is padded to 24."""
    heads = {"odd": qwen(VOCAB, 1, layers=1), "even": qwen(24, 2, tie=False, layers=2)}
    return {name: LMPolicy(model.requires_grad_(False), FakeTokenizer(VOCAB)) for name, model in heads.items()}


def routed(known: dict[str, LMPolicy]) -> View:
    pool = Domains()
    return View("t", Router("domain", {name: ModelTeacher(p) for name, p in known.items()}, pool), Plain(), pool, 0)


def gradient(student: LMPolicy, rows: Trajectory, teacher, micro_batch: int = 64, aggregate: str = "seq_sum", **more):
    term = Objective.from_method(merge(Method, {"aggregate": aggregate, **FULL, **more}, "test"), WINDOW)
    stats = term.backward(student, rows, {}, {"teacher": teacher}, micro_batch)
    flat = torch.cat([p.grad.flatten() for p in student.model.parameters()])
    student.model.zero_grad(set_to_none=True)
    return flat, stats


def test_each_row_is_answered_by_its_own_teacher():
    student, known = policies()["student"], teachers()
    view = routed(known)
    rows = view.prepare(rows_of(student, 5, 2))
    assert rows.extra["t:route"] == [1, 1, 0, 0, 1, 1, 0, 0, 1, 1]
    dist = view.dist(rows, asks=Asks(full=True))
    assert isinstance(dist, Routed) and len(dist) == len(rows.action_N)
    for i, j in ((0, len(dist)), (0, 3), (2, len(dist) - 1), (len(dist) - 1, len(dist))):
        found = dist.chunk(i, j)
        for k, name in enumerate(known):
            own = known[name].dist(rows).chunk(i, j)
            here = (torch.tensor(rows.extra["t:route"])[rows.owner_N] == k)[i:j]
            torch.testing.assert_close(found.logp_NV[here], own.logp_NV[here], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("micro_batch", [1, 3, 64])
def test_the_gradient_is_that_of_each_teacher_on_its_own_rows(micro_batch, monkeypatch):
    monkeypatch.setattr(chunked, "decisions", lambda vocab, cuda: 16)
    student, known = policies()["student"], teachers()
    view = routed(known)
    rows = view.prepare(rows_of(student, 5, 2))
    found, stats = gradient(student, rows, view, micro_batch)
    route, expected, loss = rows.extra["t:route"], 0.0, 0.0
    for k, name in enumerate(known):
        part = rows.rows([i for i, r in enumerate(route) if r == k])
        own, its = gradient(student, part, known[name])
        share = len(part) / len(rows)  # seq_sum divides by the rows of its batch
        expected, loss = expected + share * own, loss + share * its["loss"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert stats["loss"] == pytest.approx(loss, rel=1e-5)


def test_rows_of_one_teacher_alone_are_not_mixed():
    student, known = policies()["student"], teachers()
    rows = routed(known).prepare(rows_of(student, 1, 3))
    assert not isinstance(routed(known).dist(rows), Routed)
    torch.testing.assert_close(gradient(student, rows, routed(known))[0], gradient(student, rows, known["even"])[0])


def test_a_row_of_nobody_is_refused():
    student, known = policies()["student"], teachers()
    with pytest.raises(UserError, match=r"^teachers\.t: no teacher for rows whose domain is 'odd'; it names even$"):
        routed({"even": known["even"]}).prepare(rows_of(student, 2))


def test_what_only_some_know_is_not_known():
    """Scores of two tables, of which one holds a top-k: of the mixture the sampled action alone is known."""
    which, at = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])
    plain = Recorded(torch.tensor([-1.0, -2.0]))
    rich = Recorded(torch.tensor([-3.0, -4.0]), torch.zeros(2, 3).long(), torch.zeros(2, 3))
    found = Routed([plain, rich], which, at).chunk(0, 4)
    assert found.action_logp_N.tolist() == [-1.0, -3.0, -2.0, -4.0] and found.topk_ids_NK is None


def test_gaussians_with_one_width_each():
    """Of a teacher, or of each dimension: as many dimensions as decision points must confuse nobody."""
    means = torch.arange(8.0).view(4, 2)
    for widths in (torch.tensor(1.0), torch.tensor(2.0)), (torch.tensor([1.0, 3.0]), torch.tensor([2.0, 5.0])):
        parts = [DiagGaussian(means[[0, 2]], widths[0]), DiagGaussian(means[[1, 3]], widths[1])]
        found = Routed(parts, torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, 1, 1])).chunk(0, 4)
        assert torch.equal(found.mean_ND, means)
        assert torch.equal(found.std_ND, torch.stack([w.expand(2) for w in (*widths, *widths)]))


def test_teachers_that_answer_differently_are_no_mixture():
    parts = [Recorded(torch.zeros(1)), Categorical(torch.zeros(1, 2))]
    with pytest.raises(ValueError, match="answer alike; found Categorical, Recorded"):
        Routed(parts, torch.tensor([0, 1]), torch.tensor([0, 0])).chunk(0, 2)
