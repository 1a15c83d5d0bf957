"""The analyze step: publishes what the analysis declares, the same twice, and refuses what cannot be compared."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from opd_steps.config import plug_schema, plugs
from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.checks.any_node import check_node
from opd_steps.graph.code import used_plugs
from opd_steps.graph.kinds import KINDS
from opd_steps.graph.nodes import GraphNode
from opd_steps.graph.outline import preflight_pairs
from opd_steps.models.tokenizers import byte_tokenizer
from opd_steps.steps.analyze import run
from opd_steps.store.artifacts import Job, read_manifest
from tests.pipeline.stages import save_checkpoint
from tests.unit.tiny_results import publish, publish_data, publish_model

ROLES = {"model": "p/model/a/seed0", "other": "p/model/b/seed0", "peer": "p/model/c/seed0", "teacher": "p/model/c/seed0"}
OPTIONS = {
    "extrapolation_limit": {"token": "1"},
    "kept": {"value": "1+1=", "reliable": 0.0},
    "tutoring": {"judge": {"name": "tutor", "ask": "marks"}},
}  # what the analyses need beyond their defaults on these rows
ROLES |= {"data": "p/data/sums/seed0", "answers": "p/rollout/texts/seed0"}
METHODS = {"sampled": {}, "exact": {"signal": "rkl", "support": "full", "estimator": "exact"}}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    root = tmp_path_factory.mktemp("analyze") / "results"
    for seed, name in enumerate("abc"):
        publish_model(root, name, seed)
    rows = [{"id": f"r{i}", "prompt": f"{i}+{i}=", "answer": "1", "solution": "1"} for i in range(6)]
    publish_data(root, "sums", {"test": rows}, hints={"name": "marks"})
    (root / ROLES["answers"]).mkdir(parents=True)
    said = {"prompt": [i for i in range(6) for _ in range(4)], "text": ["1\n+\n1\n=1"] * 24}
    pq.write_table(pa.table(said), root / ROLES["answers"] / "rollouts.parquet")
    publish(root / ROLES["answers"], {})
    folder = root / "p/model/bytes/seed0"
    save_checkpoint(folder / "model", tokenizer=byte_tokenizer())
    publish(folder, {"family": {"name": "causal_lm"}})
    return root


def analyze(results, name: str, analysis: str, **changes) -> dict:
    needs = plugs.constant("analyses", analysis, "NEEDS")
    measured = {"methods": METHODS} if "methods" in needs else {}
    read = ("model", *needs, *(["teacher"] if measured else []))
    parents = {role: path for role, path in ROLES.items() if role in read} | changes
    plug = {"name": analysis, **OPTIONS.get(analysis, {})}
    given = {"kind": "analyze", **parents, **measured, "analysis": plug, "max_new_tokens": 6}
    options = merge(KINDS["analyze"], given, name)
    options = {k: v for k, v in options.items() if k not in {"kind", "seed", "resources", *ROLES}}
    folder = results / "p" / "analyze" / name / "seed0"
    config = {"kind": "analyze", "seed": 0, "options": options, "parents": parents}
    with Job(config, {}, folder / "manifest.json") as job:
        run(job)
    return read_manifest(folder)


@pytest.mark.parametrize("name", plug_schema.names("analyses"))
def test_every_analysis_runs_on_models_and_says_the_same_twice(results, name):
    first, again = (analyze(results, f"{name}{i}", name) for i in range(2))
    asked = {"methods": METHODS if "methods" in plugs.constant("analyses", name, "NEEDS") else {}, "analysis": {"name": name}}
    assert first["metrics"] and set(first["metrics"]) <= set(KINDS["analyze"].metrics(SimpleNamespace(options=asked)))
    assert first["metrics"] == again["metrics"]
    assert first["facts"]["n_prompts"] == (6 if "data" in plugs.constant("analyses", name, "NEEDS") else 0)


def test_equal_models(results):
    same = analyze(results, "same_overlap", "overlap", teacher=ROLES["model"])["metrics"]
    assert same["overlap/ratio"] == 1
    assert set(analyze(results, "same_kl", "forgetting", other=ROLES["model"])["metrics"].values()) == {0.0}
    metrics = analyze(results, "same_update", "update", other=ROLES["model"])["metrics"]
    assert metrics["update/norm"] == 0 and "update/stable_rank" not in metrics  # undefined figures are left out


def test_another_tokenizer_is_refused(results):
    with pytest.raises(UserError, match=r"model/bytes/seed0: the teacher's tokenizer .* is not the student's"):
        analyze(results, "tokens", "overlap", teacher="p/model/bytes/seed0")
    with pytest.raises(UserError, match=r"analyze.other: its weights are not those of the model"):
        analyze(results, "weights", "update", other="p/model/bytes/seed0")


def node(roles: dict[str, str], analysis: object, **options) -> GraphNode:
    options = merge(KINDS["analyze"], {"kind": "analyze", **roles, "analysis": analysis, **options}, "x")
    made = lambda kind, name, options, parents=(): GraphNode("p", kind, name, options, KINDS[kind], dict(parents))
    of = {"data": {"task": {"name": "prompts"}}, "model": {"family": {"name": "causal_lm"}}}
    kinds = {role: "data" if role == "data" else "model" for role in roles}
    parents = {role: made(kinds[role], name, dict(of[kinds[role]])) for role, name in roles.items()}
    return made("analyze", "x", options, parents)


@pytest.mark.parametrize(
    ("roles", "analysis", "message"),
    [
        ({"model": "a"}, "update", r"x\.other: this key is required: the analysis 'update' reads other"),
        ({"model": "a", "teacher": "b"}, "overlap", r"x\.data: this key is required"),
        ({"model": "a", "other": "b", "data": "d"}, "update", r"x\.data: the analysis 'update' would not look at it"),
        (
            {"model": "a", "teacher": "b", "data": "d"},
            {"name": "overlap", "k": 0},
            r"x\.analysis\.k: expected at least 1, found 0",
        ),
        (
            {"model": "a", "teacher": "b", "data": "d"},
            {"name": "ranking", "n": 1},
            r"x\.analysis\.n: expected 2 to 1024, found 1",
        ),
        (
            {"model": "a", "other": "b"},
            {"name": "update", "ratio": 1.5},
            r"x\.analysis\.ratio: expected above 0, at most 1, found 1.5",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(roles, analysis, message):
    with pytest.raises(UserError, match=message):
        check_node(node(roles, analysis), "x")


OF_DATA = {"model": "a", "data": "d"}


@pytest.mark.parametrize(
    ("roles", "methods", "message"),
    [
        (OF_DATA, {}, r"x\.methods: this key is required: the analysis 'gradient_variance' reads data, methods"),
        (OF_DATA, {"a": {}}, r"x\.teacher: this key is required: .* reads data, methods, teacher"),
        (OF_DATA | {"teacher": "b"}, {"a": {"add": [{"against": "reference", "estimator": "k3"}]}}, r"x\.reference: this key is"),
        (OF_DATA | {"teacher": "b"}, {"a": {"prefix": "dataset", "estimator": "mle"}}, r"x\.teacher: .* would not look at it"),
        (OF_DATA | {"teacher": "b"}, {"a": {}, "b": {"against": "peer"}}, r"x\.methods\.b\.against: this term asks 'peer'; .* are teacher"),
        (OF_DATA | {"teacher": "b"}, {"a": {"add": [{"estimator": "exact"}]}}, r"x\.methods\.a\.add\[0\]\.support: exact sums over a set"),
        (OF_DATA | {"teacher": "b"}, {"a": {"prefix": "shared"}}, r"x\.methods\.a\.prefix: there is no other learner here"),
        (
            OF_DATA | {"teacher": "b"},
            {"a": {"prefix": {"name": "routed", "to": {"x": "teacher", "y": "peer"}}}},
            r"x\.methods\.a\.prefix: routed lets 'peer' sample; here are teacher and reference alone",
        ),
        (OF_DATA | {"teacher": "b"}, {"a": {"transform": [{"name": "span_sum"}]}}, r"x\.methods\.a\.transform: span_sum needs a teacher"),
        (OF_DATA | {"teacher": "b"}, {"a": {"signal": "outcome"}, "b": {}}, r"x\.methods\.a: this term compares samples .* analysis\.n to 2"),
    ],
)  # fmt: skip
def test_methods_that_cannot_be_measured_are_refused(roles, methods, message):
    with pytest.raises(UserError, match=message):
        check_node(node(roles, "gradient_variance", methods=methods), "x")


def test_methods_of_an_analysis_that_measures_none_are_refused():
    with pytest.raises(UserError, match=r"x\.methods: the analysis 'overlap' would not look at it; it reads teacher, data"):
        check_node(node(OF_DATA | {"teacher": "b"}, "overlap", methods=METHODS), "x")


def test_what_is_asked_of_methods_is_known_before_they_run():
    topk = {"baseline": {"name": "neg_kl", "support": "student_topk", "k": 9}, "add": [{"rows": "dataset", "estimator": "mle"}]}
    found = node(OF_DATA | {"teacher": "b"}, "gradient_variance", methods={"a": {"prefix": "teacher"}, "b": topk})
    check_node(found, "x")
    assert found.says.metrics(found) == [f"variance/{m}/{figure}" for m in "ab" for figure in ("trace", "norm", "snr")]
    ((key, k, root),) = found.says.topks(found)
    assert (key, k, root.name) == ("methods.b.baseline.k", 9, "a")
    for parent in found.parents.values():
        parent.options["seed"] = 0
    assert [(row.column, row.answer) for row in found.says.rows(found, 0)] == [("", 32), ("solution", 0)]
    assert {("prefixes", "teacher"), ("objectives/baselines", "neg_kl")} <= set(used_plugs(found.says, found.options))


@pytest.mark.parametrize(("key", "value"), [("max_new_tokens", 0), ("temperature", -1.0), ("limit", -1), ("batch", 0)])
def test_impossible_sampling_is_refused(key, value):
    with pytest.raises(UserError, match=rf"x\.{key}: expected at least"):
        check_node(node({"model": "a", "teacher": "b", "data": "d"}, "overlap", **{key: value}), "x")


def test_an_analysis_must_be_named():
    with pytest.raises(UserError, match=r"x\.analysis.* required"):
        merge(KINDS["analyze"], {"kind": "analyze", "model": "a"}, "x")


QUARTERS = tuple(f"ratio_q{i}" for i in (1, 2, 3, 4))


def test_claims_and_preflight_know_the_node():
    found = node({"model": "a", "teacher": "b", "data": "d"}, "overlap")
    check_node(found, "x")
    assert found.says.metrics(found) == [f"overlap/{n}" for n in ("ratio", "teacher_mass", "model_mass", *QUARTERS)]
    for parent in found.parents.values():
        parent.options["seed"] = 0
    pairs = preflight_pairs(SimpleNamespace(nodes={found.key: found}), "p", 0)
    assert [(p["left"], p["right"]) for p in pairs] == [("p/model/a/seed0", "p/model/b/seed0")]
