"""The quickstart cut small, through sbatch: the bytes of a local run, GPUs as granted, logs where docs/slurm.md says."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.xdist_group("slurm")


def test_the_same_bytes_as_a_local_run(fresh, local):
    run = fresh.run("all", "--config", "papers=[small]")
    granted: dict[str, str] = {}

    def opd_runs():
        for job in fresh.cluster.jobs():
            if job["state"] == "RUNNING" and job["comment"] not in granted:
                granted[job["comment"]] = fresh.cluster.run("scontrol", "-d", "show", "job", job["id"])
        return run.process.poll() is not None or "Finished jobid: 0" in run.text

    run.until("the end", opd_runs, 1200)
    text = run.end()
    assert fresh.tree("small") == {**local.tree("small"), **reports(fresh)}
    for page in ("report/index.html", "report/claims.json", "report/mlflow.json", "mlflow.db"):
        assert (fresh.folder / "results" / page).exists()

    # one job of Slurm for each node but the data set, and none for what stays on the head node
    done = {j["comment"]: j for j in fresh.cluster.jobs() if j["folder"] == str(fresh.folder)}
    kinds = sorted(c.split("_")[1] for c in done)
    assert kinds == ["evaluate", "model", "opd", "opd", "pretrain", "rl", "rollout", "sft"]
    assert {j["state"] for j in done.values()} == {"COMPLETED"}

    # GPUs: what the node asks for is what the step sees, and none where none is asked for
    for node, gpus in {"vopd": 2, "opd": 1, "teacher": 1, "base": 0}.items():
        comment = next(c for c in done if c.endswith(f"_{node}_0"))
        index = re.search(r"gpu:fake:\d+\(IDX:([\d,-]+)\)", granted[comment])
        assert bool(index) == bool(gpus), granted[comment]
        seen = re.search(r"CUDA_VISIBLE_DEVICES ([\d,]+)", fresh.log_of(comment.split("_")[1], "small", node))
        assert (seen.group(1) if seen else "") == {"0": "0", "1": "1", "0-1": "0,1"}.get(index.group(1) if index else "", "")
        assert len(seen.group(1).split(",")) == gpus if gpus else seen is None

    # logs: the step's own, and Slurm's beside it, named in Snakemake's output
    for comment, job in done.items():
        slurm_log = fresh.folder / "logs/slurm" / comment.replace("_wildcards_", "/") / f"{job['id']}.log"
        assert slurm_log.exists() and str(slurm_log) in text
        assert f"Slurm job {job['id']}" in fresh.log_of(*re.match(r"rule_(\w+)_wildcards_(\w+?)_(\w+)_0$", comment).groups())


def reports(checkout) -> dict[str, bytes]:
    """What `all` writes below the paper's folder and the local run's targets may not."""
    return {n: b for n, b in checkout.tree("small").items() if n.startswith("preflight/")}
