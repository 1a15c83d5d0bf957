"""Only what changed runs again: each test edits a finished run and reads what Snakemake would do."""

from __future__ import annotations

import os
import shutil
import time

import pytest

ALL_TRAINING = ("pretrain", "rl", "sft", "rollout", "score", "opd")
VIEWS = {"track", "report"}


def kinds(jobs: set[str]) -> set[str]:
    return {job.split()[0] for job in jobs}


def test_nothing_changed_nothing_runs(finished):
    assert finished.planned("all") == set()


def test_a_variants_learning_rate_reruns_that_variant_and_what_hangs_on_it(copy):
    copy.edit("workflow/papers/smoke.yaml", "method: {baseline: neg_kl}}", "method: {baseline: neg_kl}, optim: {lr: 0.002}}")
    assert copy.planned("all") == {"opd smoke/vopd seed 0", "evaluate smoke/vopd seed 0", "plan"} | VIEWS


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
    assert "opd_steps/objectives/signals/jsd.py changed since opd/opd_jsd ran" in copy.snakemake("-n", "all").stdout


@pytest.mark.parametrize("file", ["opd_steps/loop/train.py", "opd_steps/objectives/signals/jsd.py", "opd_steps/graph.py"])
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


def test_a_fresh_clone_over_existing_results_trains_nothing(copy):
    time.sleep(0.05)
    for part in ("opd_steps", "workflow", "rules"):  # new files, new times, no records of Snakemake
        shutil.copytree(copy.folder / part, copy.folder / "new")
        for path in (copy.folder / "new").rglob("*"):
            os.utime(path)
        shutil.rmtree(copy.folder / part)
        os.rename(copy.folder / "new", copy.folder / part)
    shutil.rmtree(copy.folder / ".snakemake")
    assert kinds(copy.planned("all")).isdisjoint({*ALL_TRAINING, "data", "model", "evaluate", "analyze"})


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
