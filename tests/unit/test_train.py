"""The loop itself: hooks and checkpoints resume to the same bytes, minibatches cover the batch, schedules are what they say."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from opd_steps.graph.options import Optim
from opd_steps.loop import checkpoint
from opd_steps.loop.learner import Learner
from opd_steps.loop.objective import Objective
from opd_steps.loop.optim import gradient_variance, learning_rate, make_optimizer
from opd_steps.loop.train import train
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.hook import Hook
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.store.artifacts import Job
from tests.unit.tiny import FakeTokenizer, method, qwen

OPTIM = vars(Optim(lr=0.01, schedule="linear", warmup=0.2, weight_decay=0.1))


class Counting(Hook):
    """A hook with state: an average of the loss that also nudges a weight."""

    def __init__(self):
        self.mean = 0.0

    def __call__(self, step, policy, metrics):
        self.mean = 0.9 * self.mean + 0.1 * metrics["train/loss"]
        with torch.no_grad():
            policy.model.model.norm.weight.mul_(1 + 0.001 * self.mean)
        metrics["train/mean"] = self.mean

    def state_dict(self):
        return {"mean": self.mean}

    def load_state_dict(self, state):
        self.mean = state["mean"]


class Killed(Exception):
    pass


def run(folder, steps: int = 7, kill_at: int | None = None, minibatches: int = 1) -> dict[str, torch.Tensor]:
    """Train a tiny student towards a tiny teacher in `folder`; optionally die while making the batch of a step."""
    tokenizer = FakeTokenizer(20)
    student, teacher = (
        LMPolicy(qwen(seed=0), tokenizer, max_new_tokens=5),
        LMPolicy(qwen(seed=1).requires_grad_(False), tokenizer),
    )
    folder.mkdir(exist_ok=True)
    options = {"steps": steps, "optim": OPTIM, "micro_batch": 4, "checkpoint_every": 2, "minibatches": minibatches}
    options |= {"on_nonfinite": "stop", "max_skips": 5, "keep": {}, "spikes": {"factor": 0}}
    job = SimpleNamespace(work=folder, options=options, seed=0)

    def make_batch(step: int) -> Batch:
        if step == kill_at:
            raise Killed
        seeds = [100 * step + i for i in range(6)]
        return Batch(student.rollout([[1, 2, 3]] * 6, list(range(6)), seeds, step - 1))

    learner = Learner(student, Objective.from_method(method(), 5), {"teacher": teacher})
    train(job, learner, make_batch, (Counting(),))
    return {n: p.detach().clone() for n, p in student.model.named_parameters()}


@pytest.mark.parametrize("kill_at", [1, 2, 3, 4, 6, 7])
def test_a_broken_run_ends_like_an_unbroken_one(tmp_path, kill_at):
    whole = run(tmp_path / "whole", minibatches=2)
    with pytest.raises(Killed):
        run(tmp_path / "broken", kill_at=kill_at, minibatches=2)
    resumed = run(tmp_path / "broken", minibatches=2)
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name
    assert (tmp_path / "whole/metrics.jsonl").read_bytes() == (tmp_path / "broken/metrics.jsonl").read_bytes()
    assert "train/mean" in json.loads((tmp_path / "whole/metrics.jsonl").read_text().splitlines()[-1])


def test_checkpoints_hold_no_pickle_and_only_the_newest_stays(tmp_path):
    run(tmp_path)
    assert [p.name for p in tmp_path.glob("checkpoint-*")] == ["checkpoint-00000007"]
    assert sorted(p.name for p in (tmp_path / "checkpoint-00000007").iterdir()) == [
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
        "state.safetensors",
    ]


def test_a_half_written_checkpoint_is_not_loaded(tmp_path):
    model = qwen()
    optimizer = make_optimizer(model, OPTIM)
    (tmp_path / "checkpoint-tmp").mkdir()
    assert checkpoint.load(tmp_path, {"": (model, optimizer)}) is None


def test_learning_rates():
    at = lambda step, schedule: learning_rate(step, 100, OPTIM | {"schedule": schedule})
    assert at(10, "linear") == pytest.approx(0.005)
    assert at(20, "constant") == at(100, "constant") == pytest.approx(0.01)
    assert at(61, "linear") == pytest.approx(0.005)
    assert at(61, "cosine") == pytest.approx(0.005)
    assert 0 < at(100, "linear") < 2e-4


def test_gradient_variance_reads_adams_moments():
    weight = torch.nn.Linear(1, 1, bias=False)
    optimizer = make_optimizer(weight, OPTIM | {"lr": 0.0, "betas": [0.999, 0.999]})
    generator = torch.Generator().manual_seed(0)
    for _ in range(4000):
        weight.weight.grad = 1 + 2 * torch.randn(1, 1, generator=generator)
        optimizer.step()
    assert gradient_variance(optimizer) == pytest.approx(4.0, rel=0.15)


def test_rows_keep_their_columns_together():
    rows = Trajectory([[1], [2], [3]], [torch.tensor([1]), torch.tensor([2, 2]), torch.tensor([3])], torch.arange(3))
    assert rows.owner_N.tolist() == [0, 1, 1, 2]
    assert rows.step_N.tolist() == [0, 0, 1, 0]
    part = rows.rows([2, 1])
    assert part.action_N.tolist() == [3, 2, 2]
    assert Trajectory.concat([part, rows]).prompt_B.tolist() == [2, 1, 0, 1, 2]


class Died(BaseException):
    """A process that is killed while it deletes a folder."""


def dying_rmtree(folder, ignore_errors=False):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    if files:
        files[0].unlink()
        raise Died


@pytest.mark.parametrize("where", ["save", "clear"])
def test_death_while_old_files_are_deleted_leaves_no_damaged_checkpoint(tmp_path, monkeypatch, where):
    model = qwen()
    optimizer = make_optimizer(model, OPTIM)
    job = Job.__new__(Job)
    job.work = tmp_path
    checkpoint.save(tmp_path, 3, {"": (model, optimizer)}, {"hooks": []})
    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr("shutil.rmtree", dying_rmtree)
        checkpoint.save(tmp_path, 4, {"": (model, optimizer)}, {"hooks": []}) if where == "save" else job.clear()
    assert (checkpoint.load(tmp_path, {"": (model, optimizer)}) or {}).get("step") == (4 if where == "save" else None)
    checkpoint.save(tmp_path, 5, {"": (model, optimizer)}, {"hooks": []})  # what is left over is in nobody's way
    assert checkpoint.load(tmp_path, {"": (model, optimizer)})["step"] == 5
    job.clear()
    assert not tmp_path.exists()
