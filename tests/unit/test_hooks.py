"""Hooks in a run and on a line: extrapolation's events and its speed, exact sparse masks, the moving teacher in closed form."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from opd_steps.config import plugs
from opd_steps.errors import UserError
from opd_steps.hooks import Setting, effopd
from opd_steps.nouns.teaching import Given
from tests.unit.opd_toys import curve, nodes, read_weights, run
from tests.unit.test_loop_terms import policies
from tests.unit.tiny import qwen
from tests.unit.toy_rows import VOCAB


class Line:
    """A policy of one matrix named mlp, and one that is none: what extrapolation may and may not move."""

    def __init__(self, value: float):
        self.model = torch.nn.Module()
        self.model.mlp = torch.nn.Linear(1, 1, bias=False)
        self.model.head = torch.nn.Linear(1, 1, bias=False)
        with torch.no_grad():
            for part in (self.model.mlp, self.model.head):
                part.weight.fill_(value)

    @property
    def value(self) -> float:
        return self.model.mlp.weight.item()

    def step(self, by: float) -> None:
        with torch.no_grad():
            for part in (self.model.mlp, self.model.head):
                part.weight.add_(by)


def foresight(monkeypatch, policy: Line, score, **options):
    """The hook with a scripted score of the matrix' value."""
    monkeypatch.setattr(effopd._Foresight, "score", lambda self, policy: score(policy.value))
    setting = Setting(policy, pool=[0], seed=0, start=Path("."))
    return plugs.load("hooks", {"name": "effopd", **options}).make(setting)


def test_extrapolation_reaches_a_target_in_fewer_steps_at_a_small_learning_rate(monkeypatch):
    """A quadratic bowl and small plain steps: the regime of the paper's figure."""

    def steps(with_hook: bool) -> int:
        policy = Line(0.0)
        hook = foresight(monkeypatch, policy, lambda x: -((x - 1) ** 2))
        for step in range(1, 2000):
            policy.step(0.01 * (1 - policy.value))
            if with_hook:
                hook(step, policy, {})
            if (policy.value - 1) ** 2 < 1e-3:
                return step
        return 2000

    assert steps(True) < steps(False) / 3


def test_events_of_a_real_run(tmp_path):
    """Greedy scores on fixed prompts: at steps 1, 2, 4 and 8 the score does not fall."""
    found = run(tmp_path / "a", hooks=[{"name": "effopd", "prompts": 7, "candidates": 3}])
    rows = [json.loads(line) for line in found.metrics.splitlines()]
    events = [row for row in rows if "train/extrapolated" in row]
    assert [row["step"] for row in events] == [1, 2, 4, 8]
    assert all(row["train/score_after"] >= row["train/score_before"] for row in events)


def test_scoring_leaves_the_sampling_as_it_was(tmp_path):
    """With weights that stand still there is nothing to extrapolate, and each step samples what it would without the hook."""
    still = {"optim": {"lr": 0.0}, "sampling": {"temperature": 0.7}, "steps": 3}
    plain, scored = run(tmp_path / "a", **still), run(tmp_path / "b", hooks=["effopd"], **still)
    for name in ("reward", "length", "sampler_gap", "log_ratio"):
        assert curve(scored.metrics, name) == curve(plain.metrics, name)
    assert len(set(curve(plain.metrics, "log_ratio"))) == 3


def test_modules_that_are_not_there_are_named():
    with pytest.raises(UserError, match=r"no matrix of the student has one of \['mpl'\]"):
        plugs.load("hooks", {"name": "effopd", "modules": ["mpl"]}).make(Setting(Line(0.0), [0], 0, Path(".")))


# sparse


def setting(start: torch.nn.Module, end: torch.nn.Module) -> Setting:
    """A student that started as `start`, and a finished run that went to `end`."""
    weights = lambda folder: dict({"start": start, "end": end}[folder.name].named_parameters())
    policy = SimpleNamespace(family=SimpleNamespace(weights=weights))
    return Setting(policy, None, 0, Path("start"), Path("end"))


def masks(share: float, of: str, moved: int | None = None):
    """The mask of an update that moved all coordinates, or only `moved` of the first matrix."""
    start, end = qwen(VOCAB, 0, layers=1), qwen(VOCAB, 0 if moved else 5, layers=1)
    if moved:
        with torch.no_grad():
            next(end.parameters()).view(-1)[:moved] += 1.0
    mask = plugs.load("hooks", {"name": "sparse", "share": share, "of": of}).make(setting(start, end))
    flat = lambda named: torch.cat([x.flatten() for x in named.values()])
    update = {n: (q - p).detach().abs() for (n, p), q in zip(start.named_parameters(), end.parameters(), strict=True)}
    return flat(mask.mask), flat(update), mask


@pytest.mark.parametrize("share", [0.01, 0.2, 1.0])
def test_the_mask_is_the_share_that_moved_most(share):
    chosen, update, _ = masks(share, "largest")
    assert chosen.sum() == round(share * len(update))
    assert share == 1.0 or update[chosen].min() >= update[~chosen].max()
    random, _, _ = masks(share, "random")
    assert random.sum() == chosen.sum() and (share == 1.0 or not torch.equal(random, chosen))


def test_the_share_is_kept_where_most_coordinates_did_not_move_at_all():
    chosen, update, _ = masks(0.2, "largest", moved=50)
    assert chosen.sum() == round(0.2 * len(update)) and chosen[update > 0].all()


def test_what_the_mask_leaves_out_never_moves(tmp_path):
    found = run(tmp_path / "a", parents={"update_of": "model/end/seed5"}, steps=3, hooks=[{"name": "sparse", "share": 0.1}])
    before = read_weights(nodes() / "p/model/student/seed0")
    still = torch.cat([(p == found.weights[name]).flatten() for name, p in before.items()])
    chosen = round(0.1 * len(still))
    assert chosen / 2 < (~still).sum() <= chosen


def test_updates_of_another_shape_are_refused():
    with pytest.raises(UserError, match="its shapes are not those"):
        plugs.load("hooks", {"name": "sparse"}).make(setting(qwen(VOCAB, 0, layers=1), qwen(VOCAB, 0, layers=2)))


# the moving teacher


def average(teacher, student, **options):
    """The hook that moves `teacher` behind `student`."""
    given = Given("teacher", student, lambda: teacher, None)
    return plugs.load("teachers/sources", {"name": "ema", **options}).hook(given)


def test_the_average_in_closed_form():
    """After t steps theta_T = (1 - a)^t theta_0 + a sum_u (1 - a)^(t-u) theta_u."""
    models = policies()
    student, teacher = models["student"].model, models["teacher"].model
    first = [p.clone() for p in teacher.parameters()]
    hook, trail = average(models["teacher"], models["student"], rate=0.3), []
    for step in range(1, 5):
        with torch.no_grad():
            for p in student.parameters():
                p.add_(0.1 * step)
        trail.append([p.detach().clone() for p in student.parameters()])
        hook(step, models["student"], {})
    for i, moved in enumerate(teacher.parameters()):
        expected = 0.7**4 * first[i] + sum(0.3 * 0.7 ** (3 - u) * trail[u][i] for u in range(4))
        torch.testing.assert_close(moved.detach(), expected, rtol=1e-5, atol=1e-6)


def test_an_average_needs_one_shape():
    big = SimpleNamespace(model=qwen(VOCAB, 0, layers=2))
    hook = average(SimpleNamespace(model=qwen(VOCAB, 0, layers=1)), big)
    with pytest.raises(UserError, match="a teacher of the student's own shape"):
        hook(1, big, {})
