"""nan and infinity: a training ends at the first one, or leaves the update out; nothing of the kind is written anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from opd_steps.errors import NotFinite, UserError
from opd_steps.evaluation.own_rollouts import own_statistics
from opd_steps.graph.kinds import KINDS
from opd_steps.graph.options import Optim
from opd_steps.loop import checkpoint
from opd_steps.loop.optim import make_optimizer
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.objectives.signals.log_ratio import LogRatio
from opd_steps.process.finite import not_finite
from opd_steps.store.artifacts import Job
from opd_steps.store.metrics import MetricsLog
from opd_steps.tasks.verifiers.numeric import Numeric
from tests.unit.opd_toys import NODE, Killed, faults, run, work
from tests.unit.tiny import FakeTokenizer, qwen

SKIP = {"on_nonfinite": "skip", "max_skips": 3}
OPTIM = vars(Optim(lr=0.01))


@contextmanager
def spoiled(steps: set[int], value: float = float("nan"), minibatch: int | None = None) -> Iterator[None]:
    """The signal gives `value` in these steps, or in one minibatch of them."""
    begun, calls, real = [], [], LogRatio.reward

    def reward(self, logq, logp):
        calls.append(begun[-1])
        hit = begun[-1] in steps and minibatch in (None, calls.count(begun[-1]) - 1)
        return real(self, logq, logp) * (value if hit else 1.0)

    with faults(begun=begun), pytest.MonkeyPatch.context() as patch:
        patch.setattr(LogRatio, "reward", reward)
        yield


def rows(folder: Path) -> list[dict]:
    """The curves in the work folder, or as published."""
    place = folder / NODE if (folder / NODE).exists() else work(folder)
    return [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]


def checkpoints(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("checkpoint*"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_training_ends_at_the_first_loss_that_is_none(tmp_path, value):
    whole = run(tmp_path / "whole")
    with spoiled({5, 6}, value):
        for _ in range(2):  # the second time from the checkpoint
            with pytest.raises(UserError) as caught:
                run(tmp_path / "a")
            said = str(caught.value)
            assert said.startswith(f"{NODE}: step 5: train/loss is ") and "\n" not in said
            assert said.endswith("; nothing is published, the checkpoint after step 4 stays")
            assert checkpoints(work(tmp_path / "a")) == ["checkpoint-00000004"]
            assert [row["step"] for row in rows(tmp_path / "a")] == [1, 2, 3, 4]
    mended = run(tmp_path / "a")
    assert mended.metrics == whole.metrics
    assert all(torch.equal(mended.weights[name], value) for name, value in whole.weights.items())


def test_a_learning_rate_that_takes_weights_to_infinity(tmp_path):
    with pytest.raises(
        UserError, match=rf"^{NODE}: step 1: after the update the parameter model\.\S+ is not finite; .* no checkpoint"
    ):
        run(tmp_path / "at once", optim={"lr": 1e39, "clip": 0.0})
    with pytest.raises(UserError, match=rf"^{NODE}: step [2-8]: .* is (nan|inf)"):
        run(tmp_path / "next", optim={"lr": 1e30, "clip": 0.0})
    later = {"lr": 1.0, "clip": 0.0, "weight_decay": 1e4}  # weights grow by 1e4 a step
    with pytest.raises(UserError, match=rf"^{NODE}: step [3-8]: .*the checkpoint after step [246] stays"):
        run(tmp_path / "later", optim=later)
    assert [c for folder in ("at once", "next") for c in checkpoints(work(tmp_path / folder))] == []


def test_a_hooks_figure_that_is_none_ends_the_step(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("opd_steps.hooks.effopd._Foresight.score", lambda *_: float("nan"))
        with pytest.raises(UserError, match=rf"^{NODE}: step 1: train/score_before is nan, train/score_after is nan; nothing"):
            run(tmp_path, hooks=["effopd"])


def test_a_skipped_update_moves_neither_weights_nor_moments(tmp_path):
    each = SKIP | {"checkpoint_every": 1}
    with pytest.raises(Killed):
        run(tmp_path / "before", 5, **each)
    with spoiled({5}), pytest.raises(Killed):
        run(tmp_path / "after", 6, **each)
    kept = [work(tmp_path / f) / f"checkpoint-0000000{step}" for f, step in (("before", 4), ("after", 5))]
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (kept[0] / name).read_bytes() == (kept[1] / name).read_bytes()
    last = rows(tmp_path / "after")[-1]
    assert last["train/skipped"] == 1 and "train/reward" in last
    assert not {"train/loss", "train/grad_norm", "train/lr", "train/log_ratio", "train/entropy"} & last.keys()
    assert [row["train/skipped"] for row in rows(tmp_path / "after")] == [0, 0, 0, 0, 1]


def test_of_several_minibatches_one_is_skipped(tmp_path):
    options = {"minibatches": 3, "method": {"signal": "log_ratio"}}
    with spoiled({3}, minibatch=1):
        run(tmp_path, **options, **SKIP)
    third = rows(tmp_path)[2]
    assert third["train/skipped"] == 1 and "train/loss" in third


def test_skips_in_a_row_end_the_step_also_behind_a_resume(tmp_path):
    with spoiled({2, 4, 5, 6, 7}):
        for kill_at in (6, 0):
            with pytest.raises((UserError, Killed)) as caught:
                run(tmp_path, kill_at, **SKIP)
    assert str(caught.value).startswith(f"{NODE}: step 6: train/loss is nan")
    assert "the 3. update in a row that is left out (max_skips: 3)" in str(caught.value)
    assert checkpoints(work(tmp_path)) == ["checkpoint-00000004"]


def test_one_learners_updates_in_a_row_are_its_own(tmp_path):
    """That another's are fine ends no row."""
    peer = {"parents": {"learners.peer.model": "model/end/seed5"}, "learners": {"peer": {"optim": {"lr": 0.01}}}}
    with (
        spoiled({2, 3, 4}, minibatch=1),
        pytest.raises(UserError, match=r"step 4: train/peer/loss is nan, .* the 3\. update in a row"),
    ):
        run(tmp_path, micro_batch=64, **peer, **SKIP)
    assert [(row["train/skipped"], "train/peer/loss" in row) for row in rows(tmp_path)] == [(0, True), (1, False), (1, False)]
    assert all("train/loss" in row for row in rows(tmp_path))


def test_the_first_updates_may_be_skipped(tmp_path):
    with spoiled({1, 2}):
        whole = run(tmp_path / "whole", **SKIP)
        with pytest.raises(Killed):
            run(tmp_path / "broken", 3, **SKIP)  # a checkpoint without moments
        resumed = run(tmp_path / "broken", **SKIP)
    assert resumed.metrics == whole.metrics
    assert all(torch.equal(resumed.weights[name], value) for name, value in whole.weights.items())


CONTROLLED = {
    "controllers": [
        {"name": "raise_on_loss", "sets": "method.prefix.student_share", "every": 2, "eps": 0.0, "step": 0.2},
        {"name": "entropy_gate", "sets": "sampling.max_new_tokens", "stages": [2, 4, 6], "every": 2},
    ],
    "method": {"prefix": {"name": "mixture"}},
}


def test_with_skips_and_controllers_a_resumed_run_ends_like_an_unbroken_one(tmp_path):
    with spoiled({2, 5, 6}):
        whole = run(tmp_path / "whole", **CONTROLLED, **SKIP)
        for kill_at in (4, 7):
            with pytest.raises(Killed):
                run(tmp_path / "broken", kill_at, **CONTROLLED, **SKIP)
        resumed = run(tmp_path / "broken", **CONTROLLED, **SKIP)
    assert resumed.metrics == whole.metrics
    assert all(torch.equal(resumed.weights[name], value) for name, value in whole.weights.items())
    assert [row["train/max_new_tokens"] for row in rows(tmp_path / "whole")] == [2, 2, 4, 4, 6, 6, 6, 6]  # also behind a skip


def test_a_reward_that_is_none_ends_the_step(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Numeric, "score", lambda *_: float("nan"))
        with pytest.raises(
            UserError, match=rf"^{NODE}: step 1: it gave nan for a completion \(verifier\); nothing is published"
        ):
            run(tmp_path)


def test_the_writer_of_curves_refuses(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(1, {"train/loss": 1.0})
    with pytest.raises(NotFinite, match=r"metrics\.jsonl: train/loss is nan, train/a is inf at step 2$"):
        log.append(2, {"train/a": float("inf"), "train/b": 1.0, "train/loss": float("nan")})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "train/loss": 1.0}


def test_no_checkpoint_holds_what_is_not_finite(tmp_path):
    model = qwen()
    optimizer = make_optimizer(model, OPTIM)
    checkpoint.save(tmp_path, 1, {"": (model, optimizer)}, {"hooks": [{"reward_B": torch.tensor([torch.nan])}]})
    with pytest.raises(NotFinite, match="the state of a controller or hook is not finite"):
        checkpoint.save(tmp_path, 2, {"": (model, optimizer)}, {"hooks": [{"value": float("inf")}]})
    optimizer.state[model.model.norm.weight] = {"exp_avg": torch.full((32,), torch.inf)}
    with pytest.raises(NotFinite, match=r"model\.norm\.weight\.exp_avg is not finite"):
        checkpoint.save(tmp_path, 2, {"": (model, optimizer)}, {"hooks": []})
    model.model.norm.weight.data[3] = torch.nan
    with pytest.raises(NotFinite, match=r": model\.norm\.weight is not finite"):
        checkpoint.save(tmp_path, 2, {"": (model, optimizer)}, {"hooks": []})
    assert checkpoints(tmp_path) == ["checkpoint-00000001"]


def test_publish_refuses_a_figure_that_is_none(tmp_path):
    config = {"kind": "analyze", "options": {}, "parents": {}, "seed": 0}
    with Job(config, {}, tmp_path / "r/p/analyze/moved/seed0/manifest.json") as job:
        with pytest.raises(UserError, match=r"^p/analyze/moved/seed0: update/norm is inf; nothing is published$"):
            job.publish({"update/norm": float("inf"), "update/other": 1.0}, {})
        assert not job.folder.exists()


def broken_policy(temperature: float = 1.0, value: float = float("nan")) -> LMPolicy:
    model = qwen(20).eval()
    model.model.norm.weight.data.fill_(value)
    return LMPolicy(model, FakeTokenizer(20), temperature=temperature, max_new_tokens=4)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_without_numbers_writes_no_rollouts(temperature, value):
    """Greedy as well: the likeliest of twenty nan is the first."""
    with pytest.raises(NotFinite, match="model: the log-prob of a sampled token is not finite"):
        broken_policy(temperature, value).rollout([[1, 2], [3]], [0, 1], [5, 6])


def test_large_vocabularies_too():
    model = qwen(9000, layers=1).eval()
    model.model.norm.weight.data.fill_(torch.nan)
    with pytest.raises(NotFinite):
        LMPolicy(model, FakeTokenizer(9000), max_new_tokens=3).rollout([[1, 2]], [0], [5])


def test_a_teacher_without_numbers_is_no_teacher():
    student = LMPolicy(qwen(20).eval(), FakeTokenizer(20), max_new_tokens=4)
    with pytest.raises(NotFinite, match="its log-probs are not finite"):
        own_statistics(student, [[1, 2]], 0, broken_policy())


def test_claims_may_ask_for_what_was_skipped():
    metrics = lambda on: KINDS["sft"].metrics(
        SimpleNamespace(options={"on_nonfinite": on, "spikes": {"factor": 0}, "hooks": []})
    )
    assert "train/skipped:max" in metrics("skip") and "train/skipped" not in metrics("stop")


def test_weights_near_the_largest_number_are_numbers():
    assert not_finite([("a", torch.full((9,), 3e38)), ("b", torch.arange(3))]) is None
    assert not_finite([("a", torch.ones(2)), ("b", torch.tensor([1.0, -torch.inf])), ("c", torch.tensor([torch.nan]))]) == "b"
    assert not_finite([("h", torch.ones(2).half()), ("b", torch.tensor([torch.nan], dtype=torch.bfloat16))]) == "b"
    assert not_finite([]) is None
