"""Extrapolation beyond the teacher: lam = 1 is vanilla to the bit and needs no reference; where every lam comes to rest."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from opd_steps.graph.options import Optim
from opd_steps.loop.learner import Learner
from opd_steps.loop.objective import Objective
from opd_steps.loop.train import train
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.stream import build
from tests.unit.objectives_toys import V, close, draw
from tests.unit.tiny import FakeTokenizer, method, qwen

OPTIM = vars(Optim(lr=0.01))


class Unasked:
    def dist(self, rows, role, asks):
        raise AssertionError("the reference was asked")


def weights(folder, reference, **options) -> dict[str, torch.Tensor]:
    """A tiny student after three steps of distillation."""
    tokenizer = FakeTokenizer(20)
    student = LMPolicy(qwen(seed=0), tokenizer, max_new_tokens=5)
    teacher = LMPolicy(qwen(seed=1).requires_grad_(False), tokenizer)
    folder.mkdir()
    settings = {
        "steps": 3,
        "optim": OPTIM,
        "micro_batch": 4,
        "checkpoint_every": 10,
        "on_nonfinite": "stop",
        "max_skips": 5,
        "keep": {},
        "spikes": {"factor": 0},
    }

    def make_batch(step: int) -> Batch:
        return Batch(student.rollout([[1, 2, 3]] * 6, list(range(6)), [10 * step + i for i in range(6)], step - 1))

    job = SimpleNamespace(work=folder, options=settings, seed=0)
    others = {"teacher": teacher, "reference": reference}
    train(job, Learner(student, Objective.from_method(method(**options), 5), others), make_batch)
    return {name: p.detach() for name, p in student.model.named_parameters()}


def test_lam_one_is_vanilla_to_the_bit_and_asks_no_reference(tmp_path):
    row = {"target": {"name": "extrapolate", "lam": 1.0}}
    vanilla = weights(tmp_path / "vanilla", None)
    one = weights(tmp_path / "one", Unasked(), **row)
    assert all(torch.equal(one[name], value) for name, value in vanilla.items())
    assert Objective.from_method(method(**row), 5).asks().keys() == {"teacher"}  # so that the step does not load it
    with pytest.raises(AssertionError, match="was asked"):
        weights(tmp_path / "beyond", Unasked(), target={"name": "extrapolate", "lam": 1.25})


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.25, 2.0])
def test_the_expected_gradient_rests_at_the_tilted_teacher(lam):
    """E_q[-A grad log q] = 0 exactly where q is proportional to p^lam r^(1 - lam)."""
    logits, p = draw(0)
    r = draw(1)[1]
    stream = build(method(target={"name": "extrapolate", "lam": lam}))
    each = lambda d: Categorical(d.logp_NV.expand(V, -1))

    def gradient(z_NV: torch.Tensor) -> torch.Tensor:
        z_NV = z_NV.clone().requires_grad_()
        q = Categorical.from_logits(z_NV)
        loss_N, _ = stream.loss(each(q), Evidence(torch.arange(V), teacher=each(p), others={"reference": each(r)}))
        return torch.autograd.grad((loss_N * q.logp_NV[0].detach().exp()).sum(), z_NV)[0]

    close(gradient(lam * p.logp_NV + (1 - lam) * r.logp_NV), torch.zeros(1, V, dtype=torch.float64))
    assert float(gradient(logits).norm()) > 0.1
