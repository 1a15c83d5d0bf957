"""Terms over rows of several sources: the gradient is the sum of what each term gives alone on its own rows."""

from __future__ import annotations

import pytest
import torch

from opd_steps.config.merge import merge
from opd_steps.config.needs import label
from opd_steps.graph.method import Method
from opd_steps.loop import chunked
from opd_steps.loop.objective import Objective
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from tests.unit.tiny import FakeTokenizer, qwen
from tests.unit.toy_rows import VOCAB, ToyPool, solutions

WINDOW = 6
SEEDS = {"student": 0, "teacher": 1, "reference": 2}
DATA = label({"name": "dataset", "column": "solution"})
PRUNE = {"name": "overlap_decay", "k": 4, "margin": 1}


def policies() -> dict[str, LMPolicy]:
    return {
        role: LMPolicy(
            qwen(VOCAB, seed, layers=1).requires_grad_(role == "student"), FakeTokenizer(VOCAB), max_new_tokens=WINDOW
        )
        for role, seed in SEEDS.items()
    }


def rows_of(policy: LMPolicy, prompts: int = 3, n: int = 3) -> Trajectory:
    pool, picks = ToyPool(), [i for i in range(prompts) for _ in range(n)]
    rows = policy.rollout(pool.contexts(picks), picks, list(range(len(picks))), 0)
    return pool.judge(rows)


def data_rows() -> Trajectory:
    rows = solutions(4)
    nothing = [torch.full((len(a),), torch.nan) for a in rows.actions]
    return rows.with_columns(
        logp=nothing, reward_B=torch.full((4,), torch.nan), version_B=torch.zeros(4).long(), ended_B=torch.ones(4).bool()
    )


def mixed(models: dict[str, LMPolicy]) -> dict[str, Trajectory]:
    return {"": rows_of(models["student"]), "teacher": rows_of(models["teacher"], 2, 2), DATA: data_rows()}


def together(parts: dict[str, Trajectory]) -> Trajectory:
    rows = Trajectory.concat(list(parts.values()))
    return rows.with_columns(extra={"source": [name for name, part in parts.items() for _ in range(len(part))]})


def objective(**options) -> Objective:
    return Objective.from_method(merge(Method, options, "test"), WINDOW)


def gradient(term: Objective, models, rows: Trajectory, micro_batch: int = 64, columns=None) -> tuple[torch.Tensor, dict]:
    others = {name: models[name] for name in ("teacher", "reference")}
    stats = term.backward(models["student"], rows, columns or {}, others, micro_batch, Moment(2, 5, WINDOW))
    flat = torch.cat([p.grad.flatten() for p in models["student"].model.parameters()])
    models["student"].model.zero_grad(set_to_none=True)
    assert flat.isfinite().all()
    return flat, stats


TERMS = {
    "": {"estimator": {"name": "pg", "ratio": "sampler"}, "weight": [PRUNE, "freshness"], "transform": ["margin_shift"]},
    "teacher": {
        "signal": "fkl",
        "support": "full",
        "estimator": "exact",
        "weight": [{"name": "tip", "share": 0.5}],
        "coef": 0.5,
    },
    DATA: {"estimator": "mle", "coef": 0.3},
}


@pytest.mark.parametrize("aggregate", ["token_mean", "seq_mean", "window_mean", "seq_sum"])
def test_the_gradient_is_the_sum_of_the_terms_each_on_its_own_rows(aggregate):
    """So each term's mean is over its own tokens and rows, whatever else is in the batch."""
    models = policies()
    parts = mixed(models)
    add = [{**TERMS["teacher"], "rows": "teacher"}, {**TERMS[DATA], "rows": "dataset"}]
    all_terms = objective(aggregate=aggregate, add=add, **TERMS[""])
    found, stats = gradient(all_terms, models, together(parts))
    alone = {name: gradient(objective(aggregate=aggregate, **TERMS[name]), models, parts[name]) for name in parts}
    torch.testing.assert_close(found, sum(g for g, _ in alone.values()), rtol=1e-4, atol=1e-6)
    assert stats["loss"] == pytest.approx(sum(s["loss"] for _, s in alone.values()), rel=1e-4)
    for prefix, name in (("", ""), ("add0_", "teacher"), ("add1_", DATA)):
        for key in alone[name][1].keys() - {"loss", "entropy", "sampler_gap", "sampler_gap_max", "sampler_kl"}:
            assert stats[prefix + key] == pytest.approx(alone[name][1][key], rel=1e-4, abs=1e-6), (name, key)
    tokens = {name: int(part.length_B.sum()) for name, part in parts.items()}
    assert len(set(tokens.values())) == 3  # denominators differ, or this test would see nothing


@pytest.mark.parametrize("micro_batch", [1, 4, 100])
def test_splitting_changes_nothing_with_wide_plugs(micro_batch, monkeypatch):
    models = policies()
    rows = together(mixed(models))
    wide = {"weight": [PRUNE, {"name": "entropy_top", "share": 0.6}, "balance"], "transform": ["return_to_go"]}
    add = [
        {**TERMS["teacher"], "rows": "teacher"},
        {"rows": "teacher", "weight": [{"name": "perplexity_route", "which": "wrong"}]},
    ]
    term = objective(add=add, **wide)
    whole, stats = gradient(term, models, rows)
    monkeypatch.setattr(chunked, "decisions", lambda vocab, cuda: 16)
    parted, parted_stats = gradient(term, models, rows, micro_batch)
    torch.testing.assert_close(parted, whole, rtol=1e-4, atol=1e-6)
    assert parted_stats == pytest.approx(stats, rel=1e-4, abs=1e-6)
    assert {"prune_hits", "balanced_out"} <= stats.keys()


def test_a_term_without_rows_in_the_batch_is_nothing():
    models = policies()
    rows = rows_of(models["student"])
    both = objective(add=[{"rows": "teacher", "weight": ["balance"]}])
    torch.testing.assert_close(gradient(both, models, rows)[0], gradient(objective(), models, rows)[0])


def test_against_the_sampler_anchors_to_who_made_the_rollouts():
    """k2 against the sampler: E (log q - log mu)^2 / 2, nothing where q is the sampler itself; nan of data rows stays out."""
    models = policies()
    parts = mixed(models)
    fresh, stats = gradient(objective(estimator="k2", against="sampler"), models, parts[""])
    assert fresh.abs().max() < 1e-4 and stats["loss"] < 1e-10
    stale = rows_of(models["reference"])
    found, stats = gradient(objective(estimator="k2", against="sampler"), models, stale)
    like, _ = gradient(objective(estimator="k2", against="reference"), models, stale)  # they are the reference's rollouts
    torch.testing.assert_close(found, like, rtol=1e-3, atol=1e-5)
    assert stats["loss"] > 0.1
    add = [{"rows": "dataset", "estimator": "mle"}]
    beside, _ = gradient(
        objective(estimator="k2", against="sampler", add=add), models, together({"": stale, DATA: parts[DATA]})
    )
    mle, _ = gradient(objective(estimator="mle"), models, parts[DATA])
    torch.testing.assert_close(beside, found + mle, rtol=1e-4, atol=1e-6)


def test_what_nobody_sampled_never_reaches_a_gradient():
    """Log-probs and rewards of data rows are nan: gradients and figures of all terms stay finite, and those of others unchanged."""
    models = policies()
    parts = {name: part for name, part in mixed(models).items() if name != "teacher"}
    rows = together(parts)
    columns = {"outcome": torch.cat([torch.linspace(-1, 1, 9), torch.zeros(4)])}
    add = [{"rows": "dataset", "estimator": "mle"}]
    sampled = {
        "signal": "outcome",
        "estimator": {"name": "pg", "ratio": "sampler", "clip_low": 0.2},
        "weight": ["importance", "freshness"],
    }
    found, stats = gradient(objective(add=add, **sampled), models, rows, columns=columns)
    alone, _ = gradient(objective(**sampled), models, parts[""], columns={"outcome": columns["outcome"][:9]})
    mle, _ = gradient(objective(estimator="mle"), models, parts[DATA])
    torch.testing.assert_close(found, alone + mle, rtol=1e-4, atol=1e-6)
    assert all(value == value for value in stats.values())
