"""What clusters do to jobs: each training ends, with nobody's hand on it or with one documented command, in the bytes of an undisturbed one."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.slurm.run import Run, SlurmCheckout

pytestmark = pytest.mark.xdist_group("slurm")

PAPER = ("--config", "papers=[faults]")
STOPPED = r"earlier: stopped by signal 15 after step \d+; its checkpoint is saved, in [\d.]+ s"
NODE = "  undisturbed: {kind: pretrain, model: init, data: data}\n"


def add_nodes(checkout: SlurmCheckout, *names: str) -> None:
    """The undisturbed node, already done, and its twins."""
    twins = "".join(NODE.replace("undisturbed", name) for name in names)
    checkout.edit("workflow/papers/faults.yaml", NODE, NODE + twins)


def started(run: Run, node: str) -> dict[str, str]:
    """Wait until the training has saved something; its job."""
    run.until(f"{node} has a checkpoint", lambda: run.checkout.saved(node))
    return run.checkout.slurm_jobs(node)[-1]


def as_undisturbed(checkout: SlurmCheckout, *nodes: str) -> None:
    whole = checkout.tree("faults/pretrain/undisturbed/seed0")
    for node in nodes:
        found = checkout.tree(f"faults/pretrain/{node}/seed0")
        assert found.keys() == whole.keys()
        assert [n for n in whole if n != "manifest.json" and found[n] != whole[n]] == [], node
        manifests = [json.loads(tree["manifest.json"]) for tree in (whole, found)]
        assert [manifest.pop("node") for manifest in manifests] == ["undisturbed", node]
        assert manifests[0].pop("sha256") != manifests[1].pop("sha256")  # of the manifest, with the node's name
        assert manifests[0] == manifests[1]
    assert list((checkout.folder / "results/.work").glob("*")) == []


def resumed(checkout: SlurmCheckout, node: str) -> int:
    return checkout.log_of("pretrain", "faults", node).count("resuming after step")


def overlaps(checkout: SlurmCheckout, node: str) -> str:
    """What the step's log would say if two processes had worked at once."""
    return "\n".join(re.findall(r".*another process works.*", checkout.log_of("pretrain", "faults", node)))


def test_faults_of_jobs(copy):
    cluster = copy.cluster
    names = ("cancelled", "requeued", "preempted", "dropped", "outlived", "greedy")
    add_nodes(copy, *names)
    # a second attempt must not be preempted by the other jobs here
    dropped = "'lowcancel' if wildcards.node == 'dropped' and attempt == 1 else 'gpu'"
    partition = f"pretrain:slurm_partition='low' if wildcards.node == 'preempted' else {dropped}"
    memory = "pretrain:mem_mb=400 * attempt if wildcards.node == 'greedy' else 4000"
    extra = "pretrain:slurm_extra='--signal=TERM@30 --open-mode=append'"
    run = copy.run("teachers", *PAPER, "--set-resources", partition, memory, extra)

    job = started(run, "outlived")["id"]
    send(cluster, job, signal.SIGSTOP)  # so that it cannot end before its walltime does; Slurm wakes what it signals
    cluster.run("scontrol", "update", f"jobid={job}", "EndTime=now+90")  # TERM comes 30 to 60 s ahead
    cluster.run("scancel", started(run, "cancelled")["id"])
    cluster.run("scontrol", "requeue", started(run, "requeued")["id"])
    for node in ("preempted", "dropped"):
        where = started(run, node)["node"]
        cluster.run("sbatch", "-p", "gpu", "-w", where, "--mem", "4000", "-o", "/dev/null", "--wrap", "sleep 1")
    text = run.end()
    as_undisturbed(copy, *names)

    submitted = {name: len(copy.slurm_jobs(name)) for name in names}
    assert submitted == {"cancelled": 2, "requeued": 1, "preempted": 1, "dropped": 2, "outlived": 1, "greedy": 2}, text[-4000:]
    assert "Slurm's reason: " in text and "reason unavailable" not in text
    logs = {name: copy.log_of("pretrain", "faults", name) for name in names}
    assert "is to end soon: requeued" in logs["outlived"]
    assert "requeued" not in logs["cancelled"]
    for name in names[:-1]:
        assert re.search(STOPPED, logs[name]), name
        assert resumed(copy, name) >= 1, name


def logs_of_slurm(copy) -> list[str]:
    return [p.read_text() for p in (copy.folder / "logs/slurm/rule_pretrain").rglob("*.log")]


def send(cluster, job: str, number: int, of: bytes = b"opd_steps.steps.") -> None:
    """Signal the processes of a job with this in their command: those of its step."""
    for process in cluster.processes(job):
        with suppress(FileNotFoundError, ProcessLookupError):  # it is gone
            if of in Path(f"/proc/{process}/cmdline").read_bytes():
                os.kill(process, number)


def test_the_controller_and_nodes_go_away(copy):
    """Nobody answers for 20 s and more: when jobs are submitted, when their srun starts, and when one node has crashed with its slurmd
    and one was declared down. Each time longer than a command of Slurm's waits; no retry is used, but where Slurm itself fails a job that it
    starts again."""
    cluster, names = copy.cluster, ("kept", "lost", "split")
    add_nodes(copy, *names)
    (copy.folder / "results/faults/preflight/seed0.json").unlink()  # made first, on this machine
    run = copy.run("teachers", *PAPER, "--slurm-status-attempts", "1")
    run.until("the run has begun", lambda: "preflight: faults seed 0" in run.text)
    with away(cluster, 20):
        run.until("a submission waits", lambda: "rule pretrain waits for it" in run.text)
    running = lambda: [j["id"] for n in names for j in copy.slurm_jobs(n) if j["state"] == "RUNNING"]
    (first, *_) = run.until("one runs", running)
    send(cluster, first, signal.SIGSTOP, of=b"")  # its srun is yet to start
    asked = lambda: any("distillery: Slurm's controller does not answer; asking again" in log for log in logs_of_slurm(copy))
    with away(cluster, 25):
        send(cluster, first, signal.SIGCONT, of=b"")
        run.until("an srun waits", asked)
    jobs: dict[str, dict[str, str]] = {}

    def all_hold() -> bool:
        """Slurm starts them a minute apart, where it finds its nodes late: each waits for the others behind its first checkpoint."""
        for name in names:
            if name not in jobs and copy.saved(name):
                jobs[name] = copy.slurm_jobs(name)[-1]
                send(cluster, jobs[name]["id"], signal.SIGSTOP)
        return len(jobs) == len(names)

    run.until("each has a checkpoint", all_hold)
    for job in jobs.values():
        send(cluster, job["id"], signal.SIGCONT)
    cluster.crash(jobs["lost"]["node"], jobs["lost"]["id"])
    cluster.run("scontrol", "update", f"nodename={jobs['split']['node']}", "state=down", "reason=test")
    run.until("Slurm queues it again", lambda: copy.slurm_jobs("split")[-1]["state"] == "PENDING")  # else it may forget to
    with away(cluster, 30):
        pass
    text = run.end()
    cluster.start(jobs["lost"]["node"])
    cluster.run(
        "scontrol", "update", f"nodename={jobs['split']['node']}", "state=resume", check=False
    )  # unless it is back by itself
    as_undisturbed(copy, *jobs)
    submitted = {name: len(copy.slurm_jobs(name)) for name in jobs}
    assert (submitted["kept"], submitted["lost"]) == (1, 1), text[-4000:]
    assert submitted["split"] <= 2, text[
        -4000:
    ]  # Slurm itself may fail a job that it starts again as its controller stops: JobLaunchFailure
    assert resumed(copy, "lost") == 1 and resumed(copy, "kept") == 0
    assert "sacct" not in text and "account" not in text  # noise of the plugin


@contextmanager
def away(cluster, seconds: float):
    """The controller is stopped, for so long and until the body is done."""
    cluster.stop("slurmctld")
    begun = time.monotonic()
    yield
    time.sleep(max(0, begun + seconds - time.monotonic()))
    cluster.start("slurmctld")


def test_snakemake_itself_is_killed(copy):
    """The same command cancels the jobs that still run; they save, and go on in the new run."""
    add_nodes(copy, "orphan")
    run = copy.run("teachers", *PAPER)
    old = started(run, "orphan")["id"]
    run.kill()
    text = copy.run("teachers", *PAPER).end()
    assert f"cancelling Slurm jobs of an earlier run in this folder: {old}" in text
    as_undisturbed(copy, "orphan")
    assert [j["state"] for j in copy.slurm_jobs("orphan")] == ["CANCELLED", "COMPLETED"]
    assert resumed(copy, "orphan") == 1 and overlaps(copy, "orphan") == ""


def test_ctrl_c_cancels_the_jobs_and_the_same_command_goes_on(copy):
    add_nodes(copy, "stopped")
    run = copy.run("teachers", *PAPER)
    started(run, "stopped")
    run.process.send_signal(signal.SIGINT)
    run.end(1)
    assert copy.slurm_jobs("stopped")[0]["state"] in ("CANCELLED", "COMPLETING")
    copy.run("teachers", *PAPER).end()
    as_undisturbed(copy, "stopped")
    assert resumed(copy, "stopped") == 1


def test_two_runs_in_one_results_folder(copy, tmp_path):
    add_nodes(copy, "first")
    run = copy.run("teachers", *PAPER)
    started(run, "first")
    text = copy.run("teachers", *PAPER).end(2)
    assert "results: another run works in this results folder: host" in text
    other = SlurmCheckout(tmp_path / "other", copy.cluster)  # a colleague's clone, with our results
    paper = "workflow/papers/faults.yaml"
    (other.folder / paper).write_text((copy.folder / paper).read_text())
    results = f"pathvars={{results: {copy.folder}/results}}"
    text = other.run("teachers", "--config", "papers=[faults]", results).end(2)
    said = [line for line in text.splitlines() if line.startswith("distillery: error:")]
    assert len(said) == 1 and f"{copy.folder}/results: another run works in this results folder: host" in said[0]
    run.end()
    as_undisturbed(copy, "first")
    assert len(copy.slurm_jobs("first")) == 1
