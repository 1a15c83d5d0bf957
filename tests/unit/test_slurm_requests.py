"""Requests against partitions: what no node can ever serve is refused in one line, before anything is submitted."""

from __future__ import annotations

import math

import pytest

from opd_steps.errors import UserError
from opd_steps.slurm.requests import Node, Partition, Request, check, gpus, lead, minutes

KNOWN = [
    Partition("gpu", True, 1440.0, [Node(64, 512000, {"a100": 4}), Node(128, 1000000, {"h100": 8})]),
    Partition("cpu", False, math.inf, [Node(256, 250000, {}, 16)]),
]


def asked(**changes) -> Request:
    return Request(
        **{
            "job": "rule opd, p/x seed 0",
            "partition": "gpu",
            "gpu": 1,
            "gpu_model": "",
            "cpus": 8,
            "mem_mb": 4000,
            "runtime": 60,
        }
        | changes
    )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"partition": ""},
        {"partition": "cpu,gpu"},
        {"gpu": 8, "mem_mb": 1000000, "cpus": 128, "runtime": 1440},
        {"gpu": 4, "gpu_model": "a100"},
        {"gpu": 4, "nodes": 2},
        {"partition": "cpu", "gpu": 0, "nodes": 16},
        {"gpu": 0, "gpu_model": "v100"},
        {"partition": "cpu", "gpu": 0, "runtime": 10**6},
        {"runtime": 3, "extra": "--signal=TERM@120"},
        {"runtime": 1, "extra": "--signal=TERM@30"},
        {"runtime": 1, "extra": "--exclude=n1"},
        {"runtime": 0, "extra": "--signal=TERM@120"},  # nothing is known of it
    ],
)
def test_what_some_node_has(changes):
    check([asked(**changes)], KNOWN)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"partition": "gpuu"}, "slurm_partition: no partition 'gpuu'; this Slurm has cpu, gpu"),
        ({"partition": "gpu,nope"}, "no partition 'nope'"),
        ({"gpu": 9}, "gpu: 9; no node in partition gpu has more than 8"),
        ({"gpu": 5, "gpu_model": "a100"}, "gpu: 5; no node in partition gpu has more than 4 of model a100"),
        ({"gpu": 1, "partition": "cpu"}, "gpu: 1; no node in partition cpu has more than 0"),
        ({"gpu": 1, "gpu_model": "v100"}, "no node in partition gpu has more than 0 of model v100"),
        ({"nodes": 3}, "nodes: 3; in partition gpu 2 have gpu: 1, mem_mb: 4000, cpus: 8"),
        ({"nodes": 2, "gpu": 8}, "nodes: 2; in partition gpu 1 have gpu: 8"),
        ({"mem_mb": 1000001}, "mem_mb: 1000001; no node in partition gpu has more than 1000000"),
        ({"cpus": 129}, "cpus: 129; no node in partition gpu has more than 128"),
        ({"runtime": 1441}, "runtime: 1441 minutes; the longest walltime in partition gpu is 1440"),
        ({"gpu": 4, "gpu_model": "a100", "mem_mb": 600000}, "no node in partition gpu has all three"),
        (
            {"runtime": 1, "extra": "--signal=TERM@120"},
            "runtime: 1 minutes; the signal of slurm_extra (--signal=TERM@120) comes 2 minutes",
        ),
        (
            {"runtime": 2, "extra": "--open-mode=append --signal TERM@120"},
            "so at once: expected more than 2, or a shorter lead",
        ),
        ({"runtime": 1, "extra": "--signal=B:USR1"}, "comes 1 minutes before their end"),
    ],
)
def test_what_no_node_has(changes, says):
    with pytest.raises(UserError) as caught:
        check([asked(), asked(**changes)], KNOWN)
    assert str(caught.value).startswith("rule opd, p/x seed 0: ") and says in str(caught.value)


def test_no_default_partition():
    with pytest.raises(UserError, match="slurm_partition: name one: this Slurm has no default partition"):
        check([asked(partition="")], KNOWN[1:])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(null)", {}),
        ("gpu:4", {"": 4}),
        ("gpu", {"": 1}),
        ("gpu:a100:4(S:0-1)", {"a100": 4}),
        ("nvme:2,gpu:a100:2(S:0),gpu:a100_3g.20gb:4(S:1),gpu:1", {"a100": 2, "a100_3g.20gb": 4, "": 1}),
        ("gpu:h100:8(S:0,2),shard:16", {"h100": 8}),
    ],
)
def test_gpus_of_a_node(text, found):
    assert gpus(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [("1:00:00", 60), ("7-00:00:00", 10080), ("30:00", 30), ("1-12:30:30", 2190.5), ("infinite", math.inf), ("n/a", math.inf)],
)
def test_walltimes(text, found):
    assert minutes(text) == found


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        ("", 0),
        ("--signal=TERM@120 --open-mode=append", 2),
        ("--signal 15@90", 1.5),
        ("--signal=RB:USR1", 1),
        ("--signal='TERM@30'", 0.5),
    ],
)
def test_the_lead_of_a_signal(extra, found):
    assert lead(extra) == found
