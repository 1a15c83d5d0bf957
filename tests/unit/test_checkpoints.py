"""The verdict over prompts: an interval that covers, worked out by brute force; and what it is not said of."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from opd_steps.config import plug_schema, plugs
from opd_steps.findings.checkpoints import ALIKE, LEFT, RIGHT, bootstrap, these_checkpoints
from opd_steps.findings.judge import judge
from opd_steps.findings.results import Plan
from opd_steps.findings.sides import measured
from opd_steps.seeds import rng
from opd_steps.store.files import write_jsonl
from tests.unit.fake_results import FakeResults, with_figure

SUITES = "evaluation/suites"


def signs(ups: int, downs: int, ties: int) -> np.ndarray:
    return np.repeat([1.0, -1.0, 0.0], [ups, downs, ties])


def test_the_interval_of_yes_and_no_is_binomial():
    """A draw of n prompts of which m say yes has Binomial(n, m / n) of them."""
    for n, m in ((30, 10), (300, 41), (500, 250)):
        ends = stats.binom.ppf([0.025, 0.975], n, m / n) / n
        assert bootstrap(signs(m, 0, n - m)) == pytest.approx(ends, abs=1.01 / n)
    assert bootstrap(signs(10, 0, 20)) == pytest.approx([5 / 30, 15 / 30])
    assert bootstrap(signs(0, 0, 40)) == [0.0, 0.0] and bootstrap(signs(40, 0, 0)) == [1.0, 1.0]


def test_it_is_scipys_bootstrap_with_shared_draws():
    draw = rng("scipy")
    apart = (draw.binomial(8, 0.6, 400) - draw.binomial(8, 0.5, 400)) / 8
    theirs = stats.bootstrap((apart,), np.mean, n_resamples=20_000, method="percentile", rng=draw).confidence_interval
    assert bootstrap(apart) == pytest.approx(list(theirs), abs=0.1 * apart.std() / 20)  # a tenth of the standard error
    assert bootstrap(apart) == bootstrap(apart)
    assert bootstrap(apart[::-1]) != bootstrap(apart) and bootstrap(-apart) == pytest.approx(
        [-e for e in bootstrap(apart)[::-1]]
    )


@pytest.mark.parametrize(("p", "q"), [(0.6, 0.6), (0.7, 0.5), (0.97, 0.93)])
def test_it_covers_the_difference_over_all_prompts(p, q):
    """Prompts are easy or hard for both models alike; k = 8 samples of each. Covered 95 times in 100, within 3.3 standard errors."""
    draw, times, n = rng("coverage", p, q), 1000, 200
    covered = 0
    for _ in range(times):
        ease = draw.beta(2, 2, n) - 0.5
        chances = [np.clip(mean + 0.06 * ease, 0, 1) for mean in (p, q)]
        left, right = (draw.binomial(8, chance) / 8 for chance in chances)
        low, high = bootstrap(left - right)
        covered += low <= p - q <= high
    assert abs(covered / times - 0.95) < 3.3 * (0.95 * 0.05 / times) ** 0.5


def test_equal_models_are_rarely_told_apart():
    """Greedy answers of two models that are as good: at every count of differing prompts no more than 8 in 100 are told apart.

    Without the six that must differ it would be up to 1 in 8: of four prompts, all agree that often.
    """
    for m in range(1, 16):
        told = {ups: verdict(signs(ups, m - ups, 200 - m)) != ALIKE for ups in range(m + 1)}
        assert sum(stats.binom.pmf(ups, m, 0.5) for ups in told if told[ups]) < 0.08, m
    assert bootstrap(signs(4, 0, 196))[0] > 0 and verdict(signs(4, 0, 196)) == verdict(signs(5, 0, 195)) == ALIKE
    assert verdict(signs(6, 0, 194)) == LEFT and verdict(signs(0, 6, 194)) == RIGHT and verdict(signs(4, 2, 194)) == ALIKE


def verdict(apart: np.ndarray, op: str = ">", margin: float | None = None) -> str:
    return found(apart, op, margin)["verdict"]


def found(apart: np.ndarray, op: str = ">", margin: float | None = None, number: float | None = None) -> dict:
    """The verdict of a claim of two evaluations that differ so at each prompt."""
    names = [f"r{i}" for i in range(len(apart))]
    shown = {"a": dict(zip(names, apart, strict=True)), "b": dict.fromkeys(names, 0.0)}
    term = lambda path: {"paths": {"0": path}, "metric": "m", "prompts": {"data": "d", "file": "f", "value": "v"}}
    claim = {"op": op, "margin": margin, "left": {"terms": [term("a")]}, "right": {"terms": [term("b")]}}
    if number is not None:
        claim |= {"left": {"terms": [term("a"), term("b")]}, "right": {"value": number}}
    return these_checkpoints(_Plan(shown), claim, measured(_Plan(shown), claim))["seeds"][0]


class _Plan:
    """A plan of results that are their values at each prompt."""

    def __init__(self, shown: dict[str, dict[str, float]]):
        self.shown = shown

    def result(self, path: str) -> _Plan:
        made = _Plan(self.shown)
        made.at = self.shown[path]
        made.manifest = {"metrics": {"m": float(np.mean(list(made.at.values())))}, "fingerprint": path, "git_commit": ""}
        return made

    def by_prompt(self, file: str, value: str) -> dict[str, float]:
        return self.at


def test_as_claimed_asks_what_the_claim_asks():
    apart = signs(60, 20, 120)  # .2 higher
    assert found(apart)["verdict"] == LEFT and found(apart)["as_claimed"] is True
    assert found(apart, "<")["as_claimed"] is False
    assert found(apart, "=", 0.5)["as_claimed"] is True and found(apart, "=", 0.01)["as_claimed"] is False
    assert found(apart, "=", 0.2)["as_claimed"] is None and found(apart, "<=", 0.01)["as_claimed"] is False
    assert found(-apart, ">=", 0.5)["as_claimed"] is True and found(-apart, ">=", 0.5)["verdict"] == RIGHT
    above = found(apart, number=0.1)  # a difference above a number
    assert (above["verdict"], above["effect"]) == (LEFT, pytest.approx(0.1))
    assert above["interval"] == pytest.approx([end - 0.1 for end in found(apart)["interval"]])
    assert found(apart, number=0.2)["verdict"] == ALIKE and found(apart, number=0.4)["verdict"] == RIGHT


def test_claims_of_a_run_say_it_for_each_seed(tmp_path):
    fake = FakeResults(tmp_path)
    claims = {c["id"]: c for found in judge(Plan.read(fake.plan_file, fake.root)).values() for c in found}
    helps = claims["helps"]["these_checkpoints"]
    assert helps["counts"] == {LEFT: 5} and sorted(helps["seeds"]) == [0, 1, 2, 3, 4]
    for seed, said in helps["seeds"].items():
        sides = claims["helps"]["seeds"][seed]
        assert said["effect"] == pytest.approx(sides["left"]["value"] - sides["right"]["value"])
        assert said["interval"][0] < said["effect"] < said["interval"][1] and said["prompts"] == 300 and said["as_claimed"]
    assert claims["worse"]["these_checkpoints"]["counts"] == {LEFT: 5} and claims["half"]["these_checkpoints"] is None
    assert claims["sign"]["these_checkpoints"] is None  # reverse KL is no mean over these prompts
    gain = claims["gain"]["these_checkpoints"]["seeds"][0]  # a difference against a number
    assert gain["effect"] == pytest.approx(claims["gain"]["seeds"][0]["left"]["value"] - 0.5)
    json.dumps(claims, allow_nan=False)


def test_nothing_is_said_where_prompts_or_figures_do_not_fit(tmp_path):
    fake = FakeResults(tmp_path, seeds=(0, 1))
    said = lambda plan: judge(plan)["vopd"][0]["these_checkpoints"]
    read = lambda: Plan.read(fake.plan_file, fake.root)
    assert sorted(said(read())["seeds"]) == [0, 1]
    assert sorted(said(with_figure(read(), "vopd/evaluate/vopd/seed0", "test/avg_at_k", 0.7))["seeds"]) == [1]
    assert sorted(said(with_figure(read(), "vopd/evaluate/vopd/seed0", "test/avg_at_k", None))["seeds"]) == [1]
    samples = fake.root / "vopd/evaluate/vopd/seed1/samples/test.jsonl"
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    write_jsonl(samples, [rows[0] | {"id": "another"}, *rows[1:]])
    assert sorted(said(read())["seeds"]) == [0]
    claim = fake.plan["papers"]["vopd"]["claims"][0]
    right = claim["right"]["terms"][0]
    for prompts in (
        None,
        right["prompts"] | {"data": "quickstart/data/other"},
        right["prompts"] | {"file": "samples/ood.jsonl"},
    ):
        claim["right"]["terms"][0] = right | {"prompts": prompts}
        fake.write_plan()
        assert said(read()) is None


def test_rows_of_one_prompt_are_averaged(tmp_path):
    """As the suite `played` writes them: a row for each sample."""
    fake = FakeResults(tmp_path, seeds=(0,))
    result = Plan.read(fake.plan_file, fake.root).result("vopd/evaluate/vopd/seed0")
    rows = [{"id": "a", "reward": 1.0}, {"id": "b", "reward": 0.0}, {"id": "a", "reward": 0.5}, {"id": "b", "reward": 0.25}]
    write_jsonl(result.folder / "samples/test.jsonl", rows)
    assert result.by_prompt("samples/test.jsonl", "reward") == {"a": 0.75, "b": 0.125}
    assert result.by_prompt("samples/ood.jsonl", "reward") == {}
    write_jsonl(result.folder / "samples/test.jsonl", [*rows, {"id": "c", "reward": None}])
    assert result.by_prompt("samples/test.jsonl", "2 * reward if reward is not None else None") == {}


@pytest.mark.parametrize("suite", plug_schema.names(SUITES))
def test_what_a_suite_says_of_prompts_is_of_its_metrics(suite):
    constants = plugs.constants(SUITES, suite)
    assert constants["PROMPTS"].keys() <= constants["METRICS"].keys()
    assert all(compile(value, suite, "eval") for value in constants["PROMPTS"].values())
