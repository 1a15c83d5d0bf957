"""Private records: what one of them can do to a step, what the steps cost together, and what else would let it through."""

from __future__ import annotations

import pytest
import torch
from opacus.accountants import RDPAccountant

from opd_steps.errors import UserError
from opd_steps.gradients._accountant import noise_for, spent
from opd_steps.gradients.private import Private
from opd_steps.loop.batches import unsampled
from opd_steps.nouns.draw import Draw
from opd_steps.objectives.stream import Moment
from opd_steps.prefixes.records import Records
from opd_steps.tasks.selection.poisson import Poisson
from tests.unit.opd_toys import Killed, curve, node, run
from tests.unit.test_loop_terms import WINDOW, objective, policies
from tests.unit.test_per_record import FULL, MODELS, ROWS, STUDENT, flat
from tests.unit.test_teacher_checks import build
from tests.unit.toy_rows import ToyPool, solutions

PLAIN = {"method": {**FULL, "prefix": "records"}, "select": "poisson", "sampling": {"n": 1}, "prompts": 4}
DP = {"name": "private", "clip": 0.5, "epsilon": 0, "noise": 0.7, "delta": 1e-4}


def account(noise: float, rate: float, updates: int, delta: float) -> float:
    """What opacus' own object says, told update by update."""
    accountant = RDPAccountant()
    for _ in range(updates):
        accountant.step(noise_multiplier=noise, sample_rate=rate)
    return accountant.get_epsilon(delta=delta)


@pytest.mark.parametrize(
    ("noise", "rate", "updates", "delta"), [(1.1, 0.05, 30, 1e-5), (0.6, 0.005, 60, 1e-4), (4.0, 1.0, 3, 1e-5)]
)
def test_epsilon_is_the_accountants(noise, rate, updates, delta):
    assert spent(noise, rate, updates, delta) == pytest.approx(account(noise, rate, updates, delta), rel=1e-12)
    assert (
        spent(noise, rate, updates + 1, delta) > spent(noise, rate, updates, delta) > spent(noise + 0.1, rate, updates, delta)
    )


@pytest.mark.parametrize(("rate", "updates", "sigma"), [(0.032, 100, 1.1426), (0.01, 1000, 1.0229)])
def test_the_noise_for_the_papers_epsilon_of_2(rate, updates, sigma):
    noise = noise_for(2.0, rate, updates, 1e-5)
    assert noise == pytest.approx(sigma, rel=1e-2)
    assert 1.98 < spent(noise, rate, updates, 1e-5) <= 2.0


def work(rows, expected: int, **options) -> torch.Tensor:
    """The gradient that the optimizer is shown of these rows, where `expected` of them are."""
    plug = Private(**{"clip": 0.5, "epsilon": 0.0, **options})
    made = plug.make(STUDENT, 0, 9)
    made.begin(1, expected, 0.1)
    moment = Moment(window=WINDOW, rows=expected)
    teacher = {"teacher": MODELS["teacher"]}
    objective(**FULL).backward(MODELS["student"], rows, {}, teacher, plug.ROWS, moment, made.after_rows)
    made.finish()
    return flat()


@pytest.mark.parametrize("clip", [0.01, 0.5, 3.0])
def test_no_record_moves_the_sum_by_more_than_the_clip(clip):
    """With and without each of them, for records of tame and of huge gradients; without the clip some move it by more."""
    expected, moved, free = 5, [], []
    for i in range(len(ROWS)):
        others = ROWS.rows([k for k in range(len(ROWS)) if k != i])
        for options, into in (({"clip": clip}, moved), ({"clip": 0.0}, free)):
            into.append(expected * float((work(ROWS, expected, **options) - work(others, expected, **options)).norm()))
    assert max(moved) <= clip * (1 + 1e-4)
    assert max(free) > 3.0 if clip == 3.0 else max(free) > clip


def test_noise_has_the_size_that_the_account_presumes():
    clean, noisy = work(ROWS, 5), work(ROWS, 5, noise=2.0)
    assert float((noisy - clean).std()) == pytest.approx(2.0 * 0.5 / 5, rel=0.05)


@pytest.mark.parametrize("prefix", ["student", {"name": "records", "student_share": 0.5}])
def test_without_noise_and_clip_it_is_the_plain_gradient_to_the_byte(tmp_path, prefix):
    options = PLAIN | {"micro_batch": 1, "method": {**FULL, "prefix": prefix}}
    plain = run(tmp_path / "plain", **options)
    free = run(tmp_path / "free", gradient={"name": "private", "clip": 0, "epsilon": 0}, **options)
    assert all(torch.equal(free.weights[name], value) for name, value in plain.weights.items())
    assert curve(free.metrics, "grad_norm") == curve(plain.metrics, "grad_norm")
    assert curve(free.metrics, "epsilon") == [] and set(curve(free.metrics, "records_clipped")) == {0.0}
    noisy = run(tmp_path / "noisy", gradient=DP, **options)
    assert any(not torch.equal(noisy.weights[name], value) for name, value in plain.weights.items())


def test_a_run_tells_what_it_spent(tmp_path):
    """7 train prompts, 4 expected in each of 8 updates."""
    found = run(tmp_path / "noise", gradient=DP, **PLAIN)
    assert curve(found.metrics, "epsilon") == pytest.approx([account(0.7, 4 / 7, t, 1e-4) for t in range(1, 9)])
    assert found.manifest["metrics"]["train/epsilon:max"] == pytest.approx(account(0.7, 4 / 7, 8, 1e-4))
    assert set(curve(found.metrics, "delta")) == {1e-4}
    aimed = run(tmp_path / "aimed", gradient={"name": "private", "epsilon": 3.0, "delta": 1e-4}, **PLAIN)
    assert set(curve(aimed.metrics, "noise")) == {noise_for(3.0, 4 / 7, 8, 1e-4)}
    assert 2.98 < aimed.manifest["metrics"]["train/epsilon:max"] <= 3.0


def test_empty_steps_and_kills_change_nothing(tmp_path):
    """One prompt of seven is expected: a third of the steps have none, which is noise alone."""
    options = PLAIN | {"prompts": 1, "gradient": DP, "steps": 12}
    whole = run(tmp_path / "whole", **options)
    tokens = curve(whole.metrics, "tokens")
    assert 0 < tokens.count(0) < 12 and all(norm > 0 for norm in curve(whole.metrics, "grad_norm"))
    with pytest.raises(Killed):
        run(tmp_path / "broken", 1 + max(i for i, n in enumerate(tokens) if not n), **options)
    resumed = run(tmp_path / "broken", **options)
    assert resumed.metrics == whole.metrics
    assert all(torch.equal(resumed.weights[name], value) for name, value in whole.weights.items())


def test_prompts_come_by_their_own_chance():
    counts, picks = torch.zeros(40), []
    for step in range(1, 2001):
        picks.append(Poisson().pick(40, 3, step, 10))
        counts[picks[-1]] += 1
    sizes = torch.tensor([float(len(p)) for p in picks])
    assert picks[0] == Poisson().pick(40, 3, 1, 10) != Poisson().pick(40, 4, 1, 10)
    assert float(sizes.mean()) == pytest.approx(10, abs=0.3) and float(sizes.var()) == pytest.approx(
        7.5, abs=0.8
    )  # q (1 - q) N
    assert counts.min() > 400 and counts.max() < 600  # 500 +- 5 * 19.4
    assert Poisson().pick(5, 0, 1, 5) == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match="at most the 5"):
        Poisson().pick(5, 0, 1, 6)


def test_each_record_tosses_its_own_coin():
    student = policies()["student"]
    texts, pool = solutions(6), ToyPool()
    draw = lambda step, picks: Draw(step, step - 1, picks, 1, 0, student, {}, pool, lambda column: texts)
    told = lambda share, step, picks=(0, 1, 2, 3): Records(student_share=share).rows(draw(step, list(picks))).rows
    written = lambda rows: {p for p, logp in zip(rows.prompt_B.tolist(), rows.logp, strict=True) if logp.isnan().all()}
    assert written(told(1.0, 1)) == set() and written(told(0.0, 1)) == {0, 1, 2, 3}
    for row, prompt in zip(told(0.0, 1).actions, told(0.0, 1).prompt_B.tolist(), strict=True):
        assert torch.equal(row, texts.actions[prompt])  # its own text, not the next of an epoch
    found = [written(told(0.5, step)) for step in range(40)]
    assert 60 < sum(map(len, found)) < 100
    assert [w - {0} for w in found] == [written(told(0.5, step, (1, 2, 3))) for step in range(40)]  # whoever else is there
    assert unsampled(texts, 0).logp[0].isnan().all()


OF_RECORDS = {"student": "student", "teacher": "one", "select": "poisson", "gradient": "private"}
METHOD = {"aggregate": "seq_mean", "prefix": "records"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"select": "uniform"}, "select: private counts on records that come by chance: poisson"),
        ({"method": {"prefix": "records"}}, "aggregate: token_mean divides by the tokens of other records"),
        ({"method": {**METHOD, "prefix": "dataset"}}, "prefix: dataset takes its texts in an order of its own"),
        ({"method": {**METHOD, "weight": ["not_end"]}}, "not_end looks at the whole batch"),
        ({"method": {**METHOD, "prefix": "student", "signal": "outcome"}}, "compares the outcomes of records|sampling.n"),
        ({"method": {**METHOD, "add": [{"rows": "student"}]}}, "all terms look at the same rows"),
        ({"sampling": {"n": 2}}, "sampling.n: for private a record is one row"),
        ({"minibatches": 2}, "minibatches: poisson makes the rows of each update anew"),
        ({"buffer": {"batches": 2}}, "buffer.batches: poisson makes the rows of each update anew"),
        ({"learners": {"b": {"model": "student"}}}, "learners: private accounts for one learner"),
        ({"hooks": ["effopd"]}, "hooks: what they do with the records is not accounted for"),
        ({"on_nonfinite": "skip"}, "on_nonfinite: an update left out"),
        ({"gradient": {"name": "private", "noise": 1.0}}, "expected epsilon == 0 or noise == 0"),
        ({"gradient": {"name": "private", "clip": 0}}, "expected clip > 0"),
        ({"controllers": [{"name": "linear", "sets": "prompts", "start": 4, "end": 8}]}, "one rate of records|controllers"),
    ],
)
def test_what_would_couple_records_is_refused(options, message, tmp_path):
    build(tmp_path, **OF_RECORDS, method=METHOD)
    with pytest.raises(UserError, match=message):
        build(tmp_path, **{**OF_RECORDS, "method": METHOD, **options})


def test_other_kinds_are_told_what_to_take():
    with pytest.raises(UserError, match="a sft node draws them otherwise: take an opd node with select: poisson"):
        from opd_steps.graph.checks.apart import check_apart

        check_apart(type("N", (), {"options": {"gradient": {"name": "private"}}, "kind": "sft"}), "x")


def test_sft_on_records_needs_no_teacher(tmp_path):
    build(tmp_path, select="poisson", method={**METHOD, "estimator": "mle"}, gradient=OF_RECORDS["gradient"])
    with pytest.raises(UserError, match="either a teacher or scores"):
        build(tmp_path, method=METHOD)
    told = {"method": {"aggregate": "seq_mean", "prefix": {"name": "records", "student_share": 0.0}, "estimator": "mle"}}
    found = run(tmp_path / "run", parents={"teacher": None, "reference": None}, **PLAIN | told, gradient=DP)
    assert curve(found.metrics, "epsilon") and curve(found.metrics, "log_ratio") == []
    assert node(**PLAIN | told)["method"]["estimator"] == {"name": "mle"}
