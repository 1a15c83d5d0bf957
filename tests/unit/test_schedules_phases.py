"""Controllers of phases, on scripted series."""

from __future__ import annotations

from itertools import pairwise

import pytest

from opd_steps.schedules.linear import Linear
from opd_steps.schedules.raise_on_loss import RaiseOnLoss
from opd_steps.schedules.switch import Switch
from opd_steps.schedules.taid_momentum import TAIDSchedule


def trace(controller, losses, now):
    """The value that each step uses, and the one after the last."""
    value, state = controller.start(now)
    values = [value]
    for step, loss in enumerate(losses, 1):
        value, state = controller.after(step, len(losses), {"train/loss": loss}, value, state)
        values.append(value)
    return values


def test_switch_and_linear():
    assert trace(Switch("x", "rkl", at=0.5), [0.0] * 4, "fkl") == ["fkl", "fkl", "rkl", "rkl", "rkl"]
    assert trace(Linear("x", 0.5, 0.1), [0.0] * 4, 9.0) == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1])


def test_taid_never_falls_and_never_lags_behind_the_clock():
    falling = [1.0 / (k + 1) for k in range(20)]
    rising = falling[::-1]
    for losses in (falling, rising):
        t = trace(TAIDSchedule(rate=0.2, momentum=0.5), losses, 0.0)
        linear = [0.4 + 0.6 * k / 20 for k in range(21)]
        assert t[0] == 0.4
        assert t[-1] == 1.0
        assert all(b >= a for a, b in pairwise(t))
        assert all(a >= b - 1e-12 for a, b in zip(t, linear, strict=True))
    quick, slow = (trace(TAIDSchedule(rate=0.2, momentum=0.5), x, 0.0) for x in (falling, rising))
    assert sum(quick) > sum(slow)  # a falling loss speeds it up
    assert trace(TAIDSchedule(rate=0.0), falling, 0.0) == pytest.approx([0.4 + 0.6 * k / 20 for k in range(21)])


def test_taid_by_hand():
    controller = TAIDSchedule(rate=0.5, momentum=0.5, first=0.0)
    value, state = controller.start(0.0)
    value, state = controller.after(1, 100, {"train/loss": 2.0}, value, state)
    assert value == pytest.approx(0.25)  # no drop known yet: sigmoid(0) = .5
    value, state = controller.after(2, 100, {"train/loss": 1.0}, value, state)
    assert state["momentum"] == pytest.approx(0.25)  # half of the relative drop .5
    assert value == pytest.approx(0.25 + 0.5 * 0.5621765 * 0.75)


def test_raise_on_loss_by_hand():
    losses = [3, 1, 2, 2.5, 1, 1, 1, 1, 4, 2]  # windows of two: 2, 2.25, 1, 1, 3
    since_raise = trace(RaiseOnLoss("x", step=0.4, every=2, eps=0.2), losses, 0.0)
    assert since_raise[::2] == pytest.approx([0, 0, 0.4, 0.4, 0.4, 0.8])  # 2.25 >= 2.2, and 3 >= 2.45
    since_previous = trace(RaiseOnLoss("x", step=0.4, every=2, eps=0.0, since="previous"), losses, 0.0)
    assert since_previous[::2] == pytest.approx([0, 0, 0.4, 0.4, 0.8, 1.0])  # equal is enough; never above last
