"""Every mistake ends with one clear line and exit status 2, before anything runs, and loses nothing."""

from __future__ import annotations

import pytest

from tests.pipeline.checkout import Checkout

PAPER = "workflow/papers/smoke.yaml"
VOPD = "method: {baseline: neg_kl}}"
MISTAKES = [
    (
        "unknown key",
        PAPER,
        VOPD,
        "method: {basline: neg_kl}}",
        ["smoke.yaml: nodes.vopd.method.basline", "id you mean: 'baseline'?"],
    ),
    ("unknown plug", PAPER, VOPD, "method: {baseline: neg_kll}}", ["nodes.vopd.method.baseline", "id you mean: 'neg_kl'?"]),
    (
        "unknown option of a plug",
        PAPER,
        VOPD,
        "method: {baseline: {name: neg_kl, kk: 3}}}",
        ["baseline.kk", "id you mean: 'k'?"],
    ),
    ("wrong type", PAPER, "steps: 4, prompts: 8", "steps: many, prompts: 8", ["steps", "many", "whole number"]),
    ("no steps", PAPER, "steps: 4, prompts: 8", "steps: 0, prompts: 8", ["steps", "at least 1"]),
    (
        "unknown node",
        PAPER,
        "student: student_sft, scores: scores",
        "student: student_stf, scores: scores",
        ["nodes.lightning.student", "id you mean: 'student_sft'?"],
    ),
    (
        "wrong kind of node",
        PAPER,
        "student: student_sft, scores: scores",
        "student: traces, scores: scores",
        ["lightning.student", "'traces' is a rollout node"],
    ),
    (
        "cycle",
        PAPER,
        "base: {kind: pretrain, model: base_init",
        "base: {kind: pretrain, model: teacher",
        ["in a circle", "base -> teacher -> base"],
    ),
    ("unknown kind", PAPER, "base: {kind: pretrain", "base: {kind: pretrian", ["nodes.base.kind", "id you mean: 'pretrain'?"]),
    (
        "missing data file",
        PAPER,
        "source: {name: arithmetic, train: 400, test: 40, ood: 20, terms: [2, 3]}",
        "source: {name: jsonl, path: ./nowhere.jsonl}",
        ["source.path", "no such file or folder: ./nowhere.jsonl"],
    ),
    (
        "unknown metric",
        PAPER,
        "left: vopd.test/accuracy",
        "left: vopd.test/acuracy",
        ["claims[0].left", "id you mean: 'test/accuracy'?"],
    ),
    (
        "metric of a node that is not evaluated",
        PAPER,
        "left: vopd.test/accuracy",
        "left: opd_topk.test/accuracy",
        ["claims[0].left", "'opd_topk' is not evaluated"],
    ),
    (
        "unknown node in a claim",
        PAPER,
        "left: vopd.test/accuracy",
        "left: vpod.test/accuracy",
        ["claims[0].left", "no node 'vpod'"],
    ),
    (
        "teacher and scores",
        PAPER,
        "scores: scores, data: data}",
        "scores: scores, teacher: teacher, data: data}",
        ["nodes.lightning", "not both"],
    ),
    ("support that the estimator cannot use", PAPER, VOPD, "method: {estimator: exact}}", ["nodes.vopd.method", "exact"]),
    (
        "scores that hold too little",
        PAPER,
        "{kind: opd, student: student_sft, scores: scores, data: data}",
        "{kind: opd, student: student_sft, scores: scores, data: data, method: {support: full, signal: rkl, estimator: exact}}",
        ["nodes.lightning.method", "full"],
    ),
    (
        "truncated sampling under a ratio",
        PAPER,
        VOPD,
        "sampling: {top_p: 0.9}, method: {estimator: {name: pg, ratio: sampler}}}",
        ["nodes.vopd.method", "top_p"],
    ),
    (
        "an analysis without what it reads",
        PAPER,
        "other: student_sft, analysis: update",
        "analysis: update",
        ["nodes.moved.other", "the analysis 'update' reads other"],
    ),
    (
        "an unknown figure of an analysis",
        PAPER,
        "left: moved.update/sparsity_rel1e-2",
        "left: moved.update/sparsity_rel1e-1",
        ["claims[2].left", "id you mean: 'update/sparsity_rel1e-"],
    ),
    ("not YAML", PAPER, "nodes:", "nodes: [", ["smoke.yaml", "not valid YAML"]),
    ("unknown key of config.yaml", "config.yaml", "scale: tiny", "scal: tiny", ["config.yaml: scal", "id you mean: 'scale'?"]),
    (
        "an engine in the process that wants several GPUs",
        PAPER,
        "opd: {steps: 4",
        "opd: {engine: {name: vllm, tensor_parallel: 2}, steps: 4",
        ["engine.tensor_parallel", "one GPU; a server takes several"],
    ),
    (
        "a server's port for an engine that is none",
        PAPER,
        "opd: {steps: 4",
        "opd: {teacher_engine: {name: vllm, port: 8000}, steps: 4",
        ["teacher_engine.name", "belongs to a server"],
    ),
    (
        "a teacher elsewhere that learns",
        PAPER,
        "vopd: {kind: opd,",
        "vopd: {kind: opd, teacher_source: ema, teacher_engine: {name: server},",
        ["nodes.vopd.teacher_engine.name", "ema needs the teacher's own model: use local"],
    ),
    (
        "an engine that nobody knows",
        "config.yaml",
        "teacher_engine: local",
        "teacher_engine: vllmm",
        ["teacher_engine", "vllmm"],
    ),
    ("unknown scale", "config.yaml", "scale: tiny", "scale: huge", ["scales", "no scale 'huge'"]),
    (
        "out of range, in the scale",
        PAPER,
        "opd: {steps: 4",
        "opd: {optim: {lr: -1}, steps: 4",
        ["smoke.yaml: scales.tiny.kinds.opd.optim.lr: expected at least 0, found -1"],
    ),
    (
        "out of range, in a plug",
        PAPER,
        VOPD,
        "method: {signal: {name: jsd, beta: 2}, support: full, estimator: exact}}",
        ["smoke.yaml: nodes.vopd.method.signal.beta: expected 0 to 1, found 2"],
    ),
    ("a key twice", PAPER, VOPD, VOPD[:-1] + ", method: {}}", ["smoke.yaml:", "the key 'method' stands twice"]),
    ("seeds twice", "config.yaml", "scale: tiny", "seeds: [1]\nscale: tiny", ["config.yaml:", "the key 'seeds' stands twice"]),
    ("config.yaml not YAML", "config.yaml", "scale: tiny", "scale: [tiny", ["config.yaml:", "not valid YAML"]),
    ("a number as text", "config.yaml", "scale: tiny", "scale: 12", ["config.yaml: scale: expected text, found 12: put it in"]),
]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("fresh") / "checkout")


@pytest.mark.parametrize(("file", "old", "new", "expected"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_mistakes_in_configs(fresh, file, old, new, expected):
    path = fresh.folder / file
    before = path.read_text()
    fresh.edit(file, old, new)
    try:
        run = fresh.snakemake("-n", "all", check=False)
    finally:
        path.write_text(before)
    lines = [line for line in run.stdout.splitlines() if line.startswith("distillery: error:")]
    assert run.returncode == 2, run.stdout
    assert len(lines) == 1, run.stdout
    for part in expected:
        assert part in lines[0]


def test_unknown_paper(fresh):
    run = fresh.snakemake("-n", "all", "--config", "papers=[smok]", check=False)
    assert run.returncode == 2
    assert "no paper file workflow/papers/smok.yaml; known papers:" in run.stdout


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("seeds=[-1]", "--config: seeds[0]: expected at least 0, found -1"),
        ("scale=61e9540", "--config: scale: expected text, found inf: put it in quotes"),
        ("pathvars=", "--config: pathvars: expected {results: <folder>, logs: <folder>} or one of them, found nothing"),
        ("pathvars={foo: x}", "--config: pathvars: expected {results: <folder>"),
        ("papers=[report]", "--config: papers: 'report' names no paper"),
    ],
)
def test_mistakes_on_the_command_line(fresh, given, says):
    run = fresh.snakemake("-n", "all", "--config", given, *([] if "papers=" in given else ["papers=[smoke]"]), check=False)
    assert run.returncode == 2
    assert next(line for line in run.stdout.splitlines() if "error" in line).startswith(f"distillery: error: {says}")


def test_a_config_that_is_not_utf8(fresh):
    path = fresh.folder / "config.yaml"
    before = path.read_bytes()
    path.write_bytes(before + "# caf\xe9\n".encode("latin-1"))
    run = fresh.snakemake("-n", "all", check=False)
    path.write_bytes(before)
    assert run.returncode == 2 and "distillery: error: config.yaml:" in run.stdout and "not UTF-8" in run.stdout


def test_unknown_result(fresh):
    run = fresh.snakemake("-n", "results/smoke/opd/vopt/seed0/manifest.json", check=False)
    assert run.returncode == 2
    assert "distillery: error: smoke/opd/vopt: the chosen papers have no such node" in run.stdout
