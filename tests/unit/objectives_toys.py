"""Small random states for the tests of the objectives, and gradients of production estimators on them."""

from __future__ import annotations

import torch

from opd_steps.nouns.dist import Categorical
from opd_steps.objectives.baselines.none import NoBaseline
from opd_steps.objectives.evidence import Evidence
from opd_steps.objectives.signals.fkl import ForwardKL
from opd_steps.objectives.signals.jsd import JSD
from opd_steps.objectives.signals.log_ratio import LogRatio
from opd_steps.objectives.signals.mix import Mix
from opd_steps.objectives.signals.rkl import ReverseKL
from opd_steps.objectives.signals.skew import Skew
from opd_steps.objectives.supports.full import Full
from opd_steps.objectives.supports.intersection import Intersection
from opd_steps.objectives.supports.student_topk import StudentTopk
from opd_steps.objectives.supports.teacher_topk import TeacherTopk
from opd_steps.objectives.supports.union import Union

V = 12
SIGNALS = [
    LogRatio(),
    ReverseKL(),
    ForwardKL(),
    JSD(0.0),
    JSD(0.3),
    JSD(1.0),
    Skew(0.1, "forward"),
    Skew(0.1, "reverse"),
    Skew(0.0, "forward"),
    Skew(0.0, "reverse"),
    Mix(0.3),
]
SETS = [Full(), StudentTopk(5), TeacherTopk(5), Intersection(5), Union(5)]


def draw(seed: int, n: int = 1, v: int = V, scale: float = 1.5) -> tuple[torch.Tensor, Categorical]:
    """Student logits [n, v] and a teacher, fp64."""
    noise = torch.randn(2, n, v, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    return noise[0], Categorical.from_logits(noise[1])


def gradient(logits_NV, teacher, estimator, support, signal=None, baseline=None, action_N=None) -> torch.Tensor:
    """d(sum of losses) / d(logits), [N, V]."""
    z = logits_NV.clone().requires_grad_()
    action_N = torch.zeros(len(z), dtype=torch.long) if action_N is None else action_N
    evidence = Evidence(action_N, teacher=teacher)
    args = evidence, support, signal or LogRatio(), baseline or NoBaseline()
    loss_N, stats = estimator.loss(Categorical.from_logits(z), *args)
    assert loss_N.shape == (len(z),) and all(s.shape == (len(z),) and not s.requires_grad for s in stats.values())
    return torch.autograd.grad(loss_N.sum(), z)[0]


def close(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)
