"""Rows of plugs and controllers that cannot work are refused when the graph is built, each with its key and the reason."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from opd_steps.config import plug_schema, plugs
from opd_steps.config.versions import versions
from opd_steps.errors import UserError, one_line_errors
from opd_steps.graph import agreement, outline
from opd_steps.graph.checked import checked
from opd_steps.graph.nodes import Graph
from opd_steps.store.artifacts import sealed
from opd_steps.store.files import write_json

NODES = {
    "data": {"kind": "data"},
    "init": {"kind": "model", "data": "data", "config": {"hidden_size": 32}},
    "student": {"kind": "sft", "student": "init", "data": "data"},
    "teacher": {"kind": "pretrain", "model": "init", "data": "data"},
    "rollouts": {"kind": "rollout", "policy": "student", "data": "data"},
    "scores": {"kind": "score", "rollouts": "rollouts", "teacher": "teacher", "topk": 4},
}
EXACT = {"estimator": "exact", "support": "full", "signal": "rkl"}
RATIO = {"name": "pg", "ratio": "sampler"}
PRUNE = {"weight": [{"name": "overlap_decay", "k": 4}]}
LENGTH = "sampling.max_new_tokens"


def build(folder, **options) -> Graph:
    live = {} if "scores" in options else {"teacher": "teacher"}
    own = {"kind": "opd", "student": "student", "data": "data", **live, **options}
    OmegaConf.save({"paper": {"title": "t"}, "nodes": {**NODES, "x": own}}, folder / "toy.yaml")
    return checked(Graph([str(folder / "toy.yaml")]))


def control(name: str, sets: str, **options) -> dict:
    return {"controllers": [{"name": name, "sets": sets, **options}]}


def rise(sets: str, first: float, last: float) -> dict:
    return {"name": "linear", "sets": sets, "first": first, "last": last}


def method(**options) -> dict:
    return {"method": options}


REFUSED = {
    # estimators, supports and signals
    "a set under k2": (method(estimator="k2", support="full"), "method.support: k2 is an estimator on the sampled action"),
    "one action under exact": (method(estimator="exact"), "method.support: exact sums over a set of tokens"),
    "a reward under exact": (method(**EXACT | {"signal": "power"}), "method.signal: power is a reward, not a divergence"),
    "a reward under k2": (method(estimator="k2", signal="power"), "method.signal: k2 has its own signal"),
    "an outcome under exact": (method(**EXACT | {"signal": "outcome"}), "only pg can use it, not exact"),
    "transform without advantage": (method(**EXACT, transform=["clip"]), "method.transform: exact has no advantage"),
    # importance ratios
    "truncated sampling": ({"sampling": {"top_p": 0.9}, **method(estimator=RATIO)}, "method.estimator.ratio: with top_p < 1"),
    "greedy sampling": ({"sampling": {"temperature": 0.0}, **method(estimator=RATIO)}, "a greedy sampler"),
    "ratio to a data set": (method(estimator=RATIO, prefix={"name": "dataset"}), "method: a part of this term asks who"),
    "ratio to a mixture": (method(estimator=RATIO, prefix={"name": "mixture"}), "rows of a data set have neither"),
    "importance of data rows": (method(add=[{"rows": "dataset", "weight": ["importance"]}]), "method.add[0]: a part of this term"),
    "freshness of data rows": (method(prefix={"name": "dataset"}, weight=["freshness"]), "rows of a data set have neither"),
    "outcome of data rows": (method(add=[{"rows": "dataset", "weight": ["outcome_is"]}]), "method.add[0]: a part of this term"),
    "against nobody": (method(add=[{"rows": "dataset", "against": "sampler"}]), "method.add[0]: a part of this term asks who"),
    "all of a sampler": (method(against="sampler", baseline="neg_kl"), "the baseline neg_kl asks about more than the sampled"),
    # references and targets
    "beyond without a reference": (method(target="extrapolate"), "method.target: extrapolate with lam 1.25 looks beyond"),
    "against no reference": (method(add=[{"against": "reference"}]), "method.add[0].against: this term is against a reference"),
    "fkl to log-weights": (
        {"reference": "init", **method(**EXACT | {"signal": "fkl"}, target="extrapolate")},
        "method.signal: extrapolate yields log-weights, not probabilities: its signal is log_ratio, not fkl",
    ),
    "tail of log-weights": (
        {
            "reference": "init",
            **method(estimator="exact", support={"name": "student_topk", "norm": "tail"}, target="extrapolate"),
        },
        "method.support.norm: extrapolate yields log-weights",
    ),
    "target of nobody": (method(signal="outcome", target="taid"), "asks no teacher and would not look at taid"),
    # whole batches and groups
    "outcome of one sample": (method(signal="outcome"), "method: this term compares samples of one prompt: set sampling.n"),
    "pass rate of one sample": (method(weight=["pass_rate"]), "method: this term compares samples of one prompt"),
    "margin of one sample": (method(transform=["margin_shift"]), "method: this term compares samples of one prompt"),
    "wide plug in minibatches": ({"minibatches": 2, **method(weight=["entropy_top"])}, "minibatches: entropy_top looks at"),
    "wide plug later in minibatches": (
        {"minibatches": 2, **control("switch", "method.weight", to=["entropy_top"])},
        "minibatches: entropy_top looks at the whole batch",
    ),
    # transforms
    "return-to-go of power": (method(signal="power", transform=["return_to_go"]), "transform[0]: return_to_go acts on the log"),
    "return-to-go of vopd": (method(baseline="neg_kl", transform=["return_to_go"]), "signal log_ratio, baseline none"),
    "z-score second": (method(transform=["return_to_go", "zscore"]), "transform[1]: zscore acts on the log-ratio itself"),
    "shift behind a floor": (
        {"sampling": {"n": 2}, **method(transform=["floor", "margin_shift"])},
        "transform[1]: margin_shift is added to the advantage before the others act",
    ),
    "outcome on a set": (
        {"sampling": {"n": 2}, **method(support="full", transform=["add_outcome"])},
        "transform[0]: add_outcome speaks of the sampled action",
    ),
    # buffers
    "unknown metric": ({"buffer": {"batches": 2, "metric": "freshnes", "below": 0.1}}, "buffer.metric: reads train/freshnes"),
    "metric of no buffer": ({"buffer": {"metric": "entropy", "below": 0.1}}, "buffer.metric: rollouts used once are never old"),
    "bound of no metric": ({"buffer": {"batches": 2, "below": 0.1}}, "buffer.below: this is the bound of a metric; name it"),
    "ahead and again": ({"buffer": {"ahead": True, "passes": 2}}, "buffer.ahead: each step's rows are sampled one step before"),
    "no passes": ({"buffer": {"passes": 0}}, "buffer.passes: expected at least 1, found 0"),
    # controllers
    "no such path": (control("linear", "method.add[0].coef", first=1, last=2), "controllers[0].sets: 'method.add[0].coef' names"),
    "not while it trains": (control("linear", "optim.lr", first=1, last=2), "controllers[0].sets: 'optim.lr' cannot change"),
    "no groups of changing size": (control("linear", "sampling.n", first=2, last=4), "'sampling.n' cannot change"),
    "no changing stop strings": (control("switch", "sampling.stop", to=["b"]), "'sampling.stop' cannot change"),
    "wrong type": (control("linear", LENGTH, first=2, last=4.5), "controllers[0].last.sampling.max_new_tokens"),
    "wrong plug": (control("switch", "method.signal", to="rlk"), "no signals named 'rlk'. Did you mean: 'rkl'?"),
    "value that cannot work": (control("switch", "method.estimator", to="exact"), "method.support: exact sums over a set"),
    "length of nothing": (control("linear", LENGTH, first=0, last=4), "sampling.max_new_tokens: expected at least 1, found 0"),
    "two on one path": (
        {"controllers": [rise(LENGTH, 2, 4), {"name": "switch", "sets": LENGTH, "to": 8}]},
        "controllers[1].sets: two controllers set 'sampling.max_new_tokens'",
    ),
    "one inside another": (
        {
            **method(signal="power"),
            "controllers": [rise("method.signal.alpha", 1, 5), {"name": "switch", "sets": "method.signal", "to": "rkl"}],
        },
        "controllers[1].sets: two controllers set 'method.signal' ('method.signal.alpha')",
    ),
    "two on one curve": (
        {**method(add=[{"estimator": "k2"}]), "controllers": [rise("method.coef", 0.1, 1), rise("method.add[0].coef", 0.1, 1)]},
        "'method.coef' and 'method.add[0].coef' would share one curve, train/coef",
    ),
    "hits of nothing": (control("hit_rate", LENGTH, low=2, high=8), "controllers[0]: reads train/prune_hits"),
    "hits that end": (
        {
            **method(**PRUNE),
            "controllers": [
                {"name": "hit_rate", "sets": LENGTH, "low": 2, "high": 8},
                {"name": "switch", "sets": "method.weight", "to": []},
            ],
        },
        "controllers[0]: reads train/prune_hits",
    ),
    "a reference too late": (
        {**method(target={"name": "extrapolate", "lam": 1.0}), **control("linear", "method.target.lam", first=1, last=1.5)},
        "method.target: extrapolate with lam 1.5 looks beyond the teacher",
    ),
    # other nodes
    "pass rates missing": ({"select": "by_pass_rate"}, "pass_rates: is needed by this node's select"),
    "pass rates for nothing": ({"pass_rates": "rollouts"}, "pass_rates: is read by nothing in this node"),
    "update missing": ({"hooks": ["sparse"]}, "update_of: is needed by this node's select, judges or hooks"),
    "update for nothing": ({"update_of": "teacher"}, "update_of: is read by nothing in this node"),
    # scores instead of a teacher
    "moving teacher in a file": ({"scores": "scores", "teacher_source": "ema"}, "teacher_source: with scores there are only"),
    "buffer of a file": ({"scores": "scores", "buffer": {"batches": 2}}, "buffer: with scores there are only the scored rollouts"),
    "selection from a file": ({"scores": "scores", "select": "by_pass_rate"}, "select: with scores there are only"),
    "teacher's rows of a file": ({"scores": "scores", **method(add=[{"rows": "teacher"}])}, "add[0].rows: with scores there are"),
    "length of a file": ({"scores": "scores", **control("linear", LENGTH, first=2, last=4)}, "with scores nobody samples"),
    "bridge from a file": ({"scores": "scores", **method(target="veto")}, "the target veto asks the teacher about any token"),
    "other source": ({"scores": "scores", **method(prefix={"name": "teacher"})}, "method.prefix: with scores the prefixes"),
    # shares
    "share of the student": (method(prefix={"name": "mixture", "student_share": 1.5}), "student_share: expected 0 to 1, found 1.5"),
    "share of the teacher": (method(prefix={"name": "token_mix", "teacher_share": 0.0}), "share: expected above 0, below 1, found 0.0"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_with_its_reason(tmp_path, case):
    options, reason = REFUSED[case]
    with pytest.raises(UserError) as error:
        build(tmp_path, **options)
    assert "toy.yaml: nodes.x" in str(error.value) and reason in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"reference": "init", **method(target="extrapolate", estimator=RATIO)},
        {"sampling": {"n": 2}, **method(transform=["margin_shift", "floor"], add=[{"rows": "dataset", "estimator": "mle"}])},
        {**method(**PRUNE), **control("hit_rate", LENGTH, low=2, high=8)},
        {"buffer": {"batches": 2, "metric": "freshness", "below": 0.2}, **method(weight=["freshness"])},
        {"select": "by_pass_rate", "pass_rates": "rollouts", "hooks": ["sparse"], "update_of": "teacher"},
        {"scores": "scores", "reference": "init", **method(target="extrapolate")},
    ],
)
def test_what_can_work_is_not(tmp_path, options):
    build(tmp_path, **options)


def test_values_of_controllers_are_typed_and_each_is_a_version_of_the_node(tmp_path):
    stages = {"name": "entropy_gate", "sets": LENGTH, "stages": [2, 4, 6]}
    node = build(tmp_path, controllers=[stages, {"name": "switch", "sets": "method.signal", "to": "rkl"}]).find("toy", "x")
    assert node.options["controllers"][1]["to"] == {"name": "rkl"}
    found = list(versions(node.options))
    assert [o["sampling"]["max_new_tokens"] for o in found] == [32, 2, 4, 6, 32]
    assert [o["method"]["signal"]["name"] for o in found] == ["log_ratio"] * 4 + ["rkl"]


def test_preflight_refuses_more_tokens_than_there_are(tmp_path, capsys):
    grows = [{"name": "switch", "sets": "method.support", "to": {"name": "student_topk", "k": 13}}]
    graph = build(tmp_path, controllers=grows, **method(**EXACT | {"support": {"name": "student_topk", "k": 12}}, **PRUNE))
    asked = outline.preflight_topk(graph, "toy", 0)
    found = {(entry["node"], entry["key"], entry["k"]) for entry in asked}
    x = {("x", "method.support.k", 12), ("x", "method.support.k", 13), ("x", "method.weight[0].k", 4)}
    assert found == x | {("scores", "topk", 4)}
    for entry in asked:
        folder = tmp_path / "results" / entry["model"]
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "manifest.json", sealed({"facts": {"tokenizer": {"size": 12}}}))
    agreement.check_topk(tmp_path / "results", [e for e in asked if e["k"] < 13])
    with pytest.raises(SystemExit) as stop, one_line_errors():
        agreement.check_topk(tmp_path / "results", asked)
    assert stop.value.code == 2
    assert "node x.method.support.k: asks for 13 tokens, the vocabulary has 12" in capsys.readouterr().err


def test_every_schedule_names_the_options_that_hold_values():
    for name in plug_schema.names("schedules"):
        fields = plug_schema.schema("schedules", name).__dataclass_fields__
        values = plugs.constant("schedules", name, "VALUES")
        assert values and set(values) <= set(fields) and "sets" in fields
