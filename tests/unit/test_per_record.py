"""Gradients of records: each row's is clipped, then noise is added that is a function of seed and update."""

from __future__ import annotations

import pytest
import torch

from opd_steps.config.merge import merge
from opd_steps.gradients.per_record import PerRecord
from opd_steps.graph.method import Method
from opd_steps.loop.objective import Objective
from tests.unit.opd_toys import Killed, curve, run
from tests.unit.test_loop_terms import WINDOW, policies, rows_of

FULL = {"signal": "rkl", "support": "full", "estimator": "exact", "aggregate": "seq_mean"}
MODELS = policies()
STUDENT, ROWS = MODELS["student"].model, rows_of(MODELS["student"], 4, 2)


def flat() -> torch.Tensor:
    found = torch.cat([p.grad.flatten() for p in STUDENT.parameters()])
    STUDENT.zero_grad(set_to_none=True)
    return found


def backward(rows, micro_batch: int = 64, after_rows=None) -> None:
    term = Objective.from_method(merge(Method, FULL, "test"), WINDOW)
    term.backward(MODELS["student"], rows, {}, {"teacher": MODELS["teacher"]}, micro_batch, after_rows=after_rows)


def each() -> list[torch.Tensor]:
    """The gradient of each row's mean by itself."""
    found = []
    for i in range(len(ROWS)):
        backward(ROWS.rows([i]))
        found.append(flat())
    return found


def private(update: int = 1, seed: int = 0, **options) -> tuple[torch.Tensor, dict]:
    plug = PerRecord(**options)
    work = plug.make(STUDENT, seed, 9)
    work.begin(update, len(ROWS), 0.0)
    backward(ROWS, plug.ROWS, work.after_rows)
    figures = work.finish()
    return flat(), figures


def test_each_row_is_clipped():
    rows = each()
    norms = torch.stack([g.norm() for g in rows])
    clip = float(norms.median())  # some are above it, some below
    found, figures = private(clip=clip)
    expected = sum(g * min(1.0, clip / float(g.norm())) for g in rows) / len(rows)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert figures["records_clipped"] == pytest.approx(float((norms > clip).float().mean()), abs=1 / len(rows) + 1e-6)
    assert 0 < figures["records_clipped"] < 1
    assert figures["record_norm"] == pytest.approx(float(norms.mean()), rel=1e-4)


def test_a_wide_clip_is_the_plain_gradient():
    backward(ROWS)
    plain = flat()
    found, figures = private(clip=1e6)
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-6)
    assert figures["records_clipped"] == 0


def test_noise_is_that_of_its_update_and_has_its_size():
    clean, _ = private(clip=0.5)
    noise = {key: private(*key, clip=0.5, noise=2.0)[0] - clean for key in ((1, 0), (2, 0), (1, 1))}
    assert torch.equal(noise[1, 0], private(1, 0, clip=0.5, noise=2.0)[0] - clean)
    assert not torch.equal(noise[1, 0], noise[2, 0]) and not torch.equal(noise[1, 0], noise[1, 1])
    for drawn in noise.values():  # N(0, (noise clip / B)^2) of each coordinate
        assert float(drawn.std()) == pytest.approx(2.0 * 0.5 / len(ROWS), rel=0.05)
        assert abs(float(drawn.mean())) < 5 * float(drawn.std()) / len(drawn) ** 0.5


@pytest.mark.parametrize("options", [{}, {"minibatches": 2}])
def test_a_resumed_run_ends_like_an_unbroken_one(tmp_path, options):
    options = {"gradient": {"name": "per_record", "clip": 0.5, "noise": 0.3}, "method": FULL, **options}
    whole = run(tmp_path / "whole", **options)
    for kill_at in (4, 7):
        with pytest.raises(Killed):
            run(tmp_path / "broken", kill_at, **options)
    resumed = run(tmp_path / "broken", **options)
    assert resumed.metrics == whole.metrics
    assert all(torch.equal(resumed.weights[name], value) for name, value in whole.weights.items())
    assert len(curve(whole.metrics, "record_norm")) == len(curve(whole.metrics, "records_clipped")) == 8
    quiet = run(tmp_path / "quiet", **options | {"gradient": {"name": "per_record", "clip": 0.5}})
    assert any(not torch.equal(quiet.weights[name], value) for name, value in whole.weights.items())
