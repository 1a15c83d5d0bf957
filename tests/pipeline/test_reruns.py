"""Only what changed runs again: each test edits a finished run and reads what Snakemake would do."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ALL_TRAINING = ("pretrain", "rl", "sft", "rollout", "score", "opd")
VIEWS = {"track", "report"}


def kinds(jobs: set[str]) -> set[str]:
    return {job.split()[0] for job in jobs}


def test_nothing_changed_nothing_runs(finished):
    assert finished.planned("all") == set()


def test_a_variants_learning_rate_reruns_that_variant_and_what_hangs_on_it(copy):
    copy.edit("workflow/papers/smoke.yaml", "method: {baseline: neg_kl}}", "method: {baseline: neg_kl}, optim: {lr: 0.002}}")
    assert copy.planned("all") == {"opd smoke/vopd seed 0", "evaluate smoke/vopd seed 0", "outline"} | VIEWS


def test_two_swapped_values_are_noticed(copy):
    copy.edit(
        "workflow/papers/smoke.yaml",
        "source: {name: arithmetic, train: 400, test: 40, ood: 20",
        "source: {name: arithmetic, train: 400, test: 20, ood: 40",
    )
    assert "data smoke/data seed 0" in copy.planned("all")


def test_an_objectives_source_reruns_only_the_variants_that_use_it(copy):
    path = copy.folder / "opd_steps/objectives/signals/jsd.py"
    path.write_text(path.read_text() + "\n\nCHANGED = True\n")
    assert copy.planned("all") == {"opd smoke/opd_jsd seed 0", "evaluate smoke/opd_jsd seed 0"} | VIEWS


def test_an_analysis_reruns_alone(copy):
    path = copy.folder / "opd_steps/analyses/update.py"
    path.write_text(path.read_text() + "\n\nCHANGED = True\n")
    assert copy.planned("all") == {"analyze smoke/moved seed 0"} | VIEWS


def test_the_dry_run_names_the_file_that_caused_it(copy):
    path = copy.folder / "opd_steps/objectives/signals/jsd.py"
    path.write_text(path.read_text() + "\n\nCHANGED = True\n")
    said = copy.snakemake("-n", "all").stdout
    assert "distillery: opd_steps/objectives/signals/jsd.py changed; to run again: opd/opd_jsd\n" in said
    assert "Reason: opd_steps/objectives/signals/jsd.py changed\n" in said


def test_the_dry_run_names_the_option_that_caused_it(copy):
    copy.edit("workflow/papers/smoke.yaml", "method: {baseline: neg_kl}}", "method: {baseline: neg_kl}, optim: {lr: 0.002}}")
    said = copy.snakemake("-n", "all").stdout
    assert "distillery: optim.lr was 0.001, is 0.002; to run again: opd/vopd\n" in said
    assert "Reason: optim.lr was 0.001, is 0.002\n" in said


def test_status_says_what_is_current_stale_and_missing_also_while_a_run_works(copy):
    whole = copy.snakemake("status").stdout
    assert " 0 stale      0 missing\n" in whole and "because" not in whole
    copy.edit("workflow/papers/smoke.yaml", "method: {baseline: neg_kl}}", "method: {baseline: neg_kl}, optim: {lr: 0.002}}")
    shutil.rmtree(copy.folder / "results/smoke/opd/opd_jsd")
    with (copy.folder / "results/.run.lock").open("a") as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        said = copy.snakemake("status").stdout
    assert " 1 stale      1 missing\n" in said
    assert "smoke/opd/vopd: stale (seed 0), because optim.lr was 0.001, is 0.002\n" in said
    assert "smoke/opd/opd_jsd: missing (seed 0)\n" in said


@pytest.mark.parametrize("file", ["opd_steps/loop/train.py", "opd_steps/objectives/signals/jsd.py", "opd_steps/graph/nodes.py"])
def test_a_comment_or_a_docstring_reruns_nothing(copy, file):
    path = copy.folder / file
    path.write_text(path.read_text().replace('"""', '"""Otherwise said. ', 1) + "\n# a comment\n")
    assert copy.planned("all") == set()


def test_the_order_of_keys_reruns_nothing(copy):
    copy.edit(
        "workflow/papers/smoke.yaml",
        "{kind: opd, student: student_sft, scores: scores, data: data}",
        "{data: data, scores: scores, student: student_sft, kind: opd}",
    )
    assert copy.planned("all") == set()


def test_touched_files_rerun_nothing(copy):
    for path in (copy.folder / "opd_steps").rglob("*.py"):
        os.utime(path)
    os.utime(copy.paper)
    assert copy.planned("all") == set()


def lost_records(copy) -> None:
    shutil.rmtree(copy.folder / ".snakemake")


def copied_results(copy) -> None:
    """New times, in whatever order the copy had, and no records of Snakemake."""
    lost_records(copy)
    os.rename(copy.folder / "results", copy.folder / "old")
    subprocess.run(["cp", "-r", "old", "results"], cwd=copy.folder, check=True)


@pytest.mark.parametrize("loss", [lost_records, copied_results])
def test_the_manifests_alone_say_what_is_current(copy, loss):
    loss(copy)
    assert copy.planned("all") == set()
    copy.edit("workflow/papers/smoke.yaml", "method: {baseline: neg_kl}}", "method: {baseline: neg_kl}, optim: {lr: 0.002}}")
    assert copy.planned("all") == {"opd smoke/vopd seed 0", "evaluate smoke/vopd seed 0", "outline"} | VIEWS


def test_results_elsewhere_are_as_current_as_here(copy):
    os.rename(copy.folder / "results", copy.folder / "elsewhere")
    lost_records(copy)
    there = ("--config", "papers=[smoke]", "pathvars={results: elsewhere}", "tracking={uri: sqlite:///elsewhere/mlflow.db}")
    assert copy.planned("all", *there) <= {"outline"} | VIEWS  # the plan holds the changed uri
    copy.edit("workflow/papers/smoke.yaml", "method: {baseline: neg_kl}}", "method: {baseline: neg_kl}, optim: {lr: 0.002}}")
    assert "opd smoke/vopd seed 0" in copy.planned("all", *there)


def test_a_dry_run_changes_nothing_on_disk(copy):
    model = copy.folder / "results/smoke/pretrain/base/seed0/model"
    os.rename(model, copy.folder / "away")
    before = state(copy.folder)
    assert "rl smoke/teacher seed 0" in copy.planned("all")
    assert state(copy.folder) == before
    os.rename(copy.folder / "away", model)
    assert copy.planned("all") == set()


def state(folder: Path) -> dict[str, tuple]:
    """Name, size and time of every file but those in which Snakemake keeps its own."""
    stats = {
        p: p.stat() for p in folder.rglob("*") if p.is_file() and ".snakemake" not in p.parts and "__pycache__" not in p.parts
    }
    return {str(p): (s.st_size, s.st_mtime_ns, s.st_ino) for p, s in stats.items()}


@pytest.mark.parametrize(
    ("file", "jobs"),
    {
        "mlflow.db": {"track"},
        "report/mlflow.json": {"track"},
        "report/claims.json": {"report"},
        "report/index.html": {"report"},
        "report/plan.json": {"outline"} | VIEWS,
        "report/manifests/smoke.json": VIEWS,
        "smoke/preflight/seed0.json": {"preflight smoke seed 0"},
        "smoke/evaluate/vopd/seed0/manifest.json": {"evaluate smoke/vopd seed 0"} | VIEWS,
    }.items(),
)
def test_what_was_deleted_or_cut_off_is_made_again(copy, file, jobs):
    path = copy.folder / "results" / file
    data = path.read_bytes()
    path.unlink()
    assert copy.planned("all") == jobs
    if file != "mlflow.db":
        path.write_bytes(data[:-20])
        assert copy.planned("all") == jobs


def test_an_edited_manifest_is_none(copy):
    path = copy.folder / "results/smoke/evaluate/vopd/seed0/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["metrics"]["test/accuracy"] = 1.0
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    assert copy.planned("all") == {"evaluate smoke/vopd seed 0"} | VIEWS


def test_what_comes_out_the_same_trains_nothing_anew(copy):
    """The data are made again; all that stands on them looks at what came out, and stays."""
    results = copy.folder / "results/smoke"
    weights = results / "opd/vopd/seed0/model/model.safetensors"
    before = weights.stat().st_ino, weights.stat().st_mtime_ns
    (results / "data/data/seed0/manifest.json").unlink()
    assert "opd smoke/vopd seed 0" in copy.planned("all")
    copy.snakemake("all")
    assert (weights.stat().st_ino, weights.stat().st_mtime_ns) == before
    assert "kept as it is" in (copy.folder / "logs/smoke/opd/vopd/seed0.log").read_text()
    assert copy.planned("all") == set()


def test_a_job_that_is_asked_for_by_name_runs_in_earnest(copy):
    weights = copy.folder / "results/smoke/opd/vopd/seed0/model/model.safetensors"
    before = weights.read_bytes(), weights.stat().st_ino
    copy.snakemake("results/smoke/opd/vopd/seed0/manifest.json", "-f")
    assert weights.read_bytes() == before[0] and weights.stat().st_ino != before[1]


def test_a_fresh_clone_over_existing_results_trains_nothing(copy):
    time.sleep(0.05)
    for part in ("opd_steps", "workflow", "rules"):  # new files, new times, no records of Snakemake
        shutil.copytree(copy.folder / part, copy.folder / "new")
        for path in (copy.folder / "new").rglob("*"):
            os.utime(path)
        shutil.rmtree(copy.folder / part)
        os.rename(copy.folder / "new", copy.folder / part)
    lost_records(copy)
    assert copy.planned("all") == set()


def test_the_sft_data_reruns_what_stands_on_it_but_not_the_teacher(copy):
    copy.edit("workflow/papers/smoke.yaml", "policy: teacher, data: data, limit: 100", "policy: teacher, data: data, limit: 90")
    jobs = copy.planned("all")
    assert {
        "rollout smoke/traces seed 0",
        "sft smoke/student_sft seed 0",
        "opd smoke/vopd seed 0",
        "opd smoke/lightning seed 0",
        "analyze smoke/moved seed 0",
    } <= jobs
    assert not jobs & {"rl smoke/teacher seed 0", "pretrain smoke/base seed 0", "evaluate smoke/teacher seed 0"}


def test_a_report_caption_reruns_the_report_alone(copy):
    path = copy.folder / "workflow/report/captions.yaml"
    path.write_text(path.read_text() + "# reworded\n")
    assert copy.planned("all") == {"report"}


@pytest.mark.parametrize("fault", ["deleted", "truncated", "overwritten"])
def test_weights_lost_or_damaged_on_disk_are_noticed(copy, fault):
    weights = copy.folder / "results/smoke/opd/vopd/seed0/model/model.safetensors"
    data = weights.read_bytes()
    if fault == "deleted":
        weights.unlink()
    else:
        weights.write_bytes(data[:-8] if fault == "truncated" else data[:-8] + b"12345678")
    run = copy.snakemake("-n", "all")
    assert "vopd/seed0/model/model.safetensors is" in run.stdout
    assert "opd smoke/vopd seed 0" in copy.planned("all")


def test_a_new_seed_runs_beside_the_old_one(copy):
    jobs = copy.planned("all", "--config", "papers=[smoke]", "seeds=[0,1]")
    assert "opd smoke/vopd seed 1" in jobs
    assert not {job for job in jobs if job.endswith("seed 0")}
