"""What jobs ask for against what the partitions have, before anything is submitted.

Left to itself Slurm refuses some of it at every retry and keeps the rest pending for ever, as its site has set EnforcePartLimits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from opd_steps.errors import UserError
from opd_steps.slurm.commands import ask

FORMAT = "%P|%l|%c|%m|%G|%D"  # partition, walltime, CPUs, MiB and GPUs of a node, and how many are like that


@dataclass
class Request:
    job: str
    partition: str  # "" = the default one; several as "a,b"
    gpu: int
    gpu_model: str
    cpus: int
    mem_mb: int
    runtime: int  # minutes
    extra: str = ""  # further options of sbatch
    nodes: int = 1  # machines, each with all that


@dataclass
class Node:
    """One kind of node of a partition."""

    cpus: int
    mem_mb: int
    gpus: dict[str, int]  # by model
    count: int = 1


@dataclass
class Partition:
    name: str
    default: bool
    minutes: float  # longest walltime
    nodes: list[Node]


def request(job) -> Request:
    """The request of a Snakemake job; what is not known yet counts as nothing."""
    number = lambda key, default=0: v if isinstance(v := job.resources.get(key), int) else default
    wildcards = job.wildcards_dict
    name = f"rule {job.rule.name}, " + " ".join(
        [
            "/".join(wildcards[k] for k in ("paper", "node") if k in wildcards),
            *([f"seed {wildcards['seed']}"] if "seed" in wildcards else []),
        ]
    )
    return Request(
        job=name,
        partition=str(job.resources.get("slurm_partition") or ""),
        gpu=number("gpu"),
        gpu_model=str(job.resources.get("gpu_model") or ""),
        cpus=number("cpus_per_task", job.threads),
        mem_mb=number("mem_mb"),
        runtime=number("runtime"),
        extra=str(job.resources.get("slurm_extra") or ""),
        nodes=number("nodes", 1),
    )


def partitions() -> list[Partition]:
    """All partitions, as sinfo says now."""
    found: dict[str, Partition] = {}
    for row in ask("sinfo", "-a", "-h", "-e", "-o", FORMAT).splitlines():
        name, limit, cpus, mem, gres, count = row.split("|")
        entry = found.setdefault(name.rstrip("*"), Partition(name.rstrip("*"), name.endswith("*"), minutes(limit), []))
        entry.nodes.append(Node(_int(cpus), _int(mem), gpus(gres), _int(count)))
    return list(found.values())


def minutes(limit: str) -> float:
    """Slurm's [days-]hours:minutes:seconds, minutes:seconds, or infinite."""
    if not limit[:1].isdigit():
        return float("inf")
    days, _, clock = limit.rpartition("-")
    parts = [int(x) for x in clock.split(":")]
    hours, mins, secs = [0] * (3 - len(parts)) + parts
    return int(days or 0) * 1440 + hours * 60 + mins + secs / 60


def gpus(gres: str) -> dict[str, int]:
    """ "gpu:a100:4(S:0-1),gpu:2,nvme:1" -> {"a100": 4, "": 2}."""
    found: dict[str, int] = {}
    for model, count in re.findall(r"(?:^|,)gpu(?::([^:,()]*[^:,()\d][^:,()]*))?(?::(\d+))?", gres):
        found[model] = found.get(model, 0) + int(count or 1)
    return found


def check(requests: list[Request], known: list[Partition]) -> None:
    """Raises UserError on the first request that no node of its partitions can ever serve."""
    for r in requests:
        if problem := _problem(r, known):
            raise UserError(r.job, f"{problem}; see resources in the paper, and slurm/profile.yaml")


def lead(extra: str) -> float:
    """Minutes before the walltime at which a job is sent a signal (sbatch's --signal); 0 without one."""
    found = re.search(r"--signal[= ]['\"]?(?:[BR]+:)?\w+(?:@(\d+))?", extra)
    return int(found[1] or 60) / 60 if found else 0.0


def _problem(r: Request, known: list[Partition]) -> str | None:
    names = r.partition.split(",") if r.partition else [p.name for p in known if p.default]
    if not names:
        return "slurm_partition: name one: this Slurm has no default partition"
    for name in names:
        if name not in {p.name for p in known}:
            return f"slurm_partition: no partition {name!r}; this Slurm has {', '.join(sorted(p.name for p in known))}"
    mine = [p for p in known if p.name in names]
    nodes = [n for p in mine for n in p.nodes]
    at, have = (
        f"in partition {r.partition or names[0]}",
        lambda n: n.gpus.get(r.gpu_model, 0) if r.gpu_model else sum(n.gpus.values()),
    )
    if r.runtime > (longest := max(p.minutes for p in mine)):
        return f"runtime: {r.runtime} minutes; the longest walltime {at} is {longest:.0f}"
    if r.runtime and r.runtime <= (ahead := lead(r.extra)):
        return (
            f"runtime: {r.runtime} minutes; the signal of slurm_extra ({r.extra}) comes {ahead:g} minutes before their end, so at "
            f"once: expected more than {ahead:g}, or a shorter lead"
        )
    if r.gpu > (most := max(map(have, nodes), default=0)):
        return f"gpu: {r.gpu}; no node {at} has more than {most}" + (f" of model {r.gpu_model}" if r.gpu_model else "")
    for key, asked, has in (("mem_mb", r.mem_mb, lambda n: n.mem_mb), ("cpus", r.cpus, lambda n: n.cpus)):
        if asked > (most := max(map(has, nodes), default=0)):
            return f"{key}: {asked}; no node {at} has more than {most}"
    fit = sum(n.count for n in nodes if have(n) >= r.gpu and n.mem_mb >= r.mem_mb and n.cpus >= r.cpus)
    if not fit:
        return f"gpu: {r.gpu}, mem_mb: {r.mem_mb}, cpus: {r.cpus}; no node {at} has all three"
    if fit < r.nodes:
        return f"nodes: {r.nodes}; {at} {fit} have gpu: {r.gpu}, mem_mb: {r.mem_mb}, cpus: {r.cpus}"
    return None


def _int(text: str) -> int:
    return int(re.match(r"\d*", text).group() or 0)
