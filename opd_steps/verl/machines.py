"""Ray on the machines of one Slurm job: slurm/ray.sh on each, the step's own first, and gone with the step."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from opd_steps.errors import UserError
from opd_steps.process.launch import free_port
from opd_steps.process.lifetime import Family
from opd_steps.slurm.srun import real
from opd_steps.store.fingerprint import ROOT

ASKED = "DISTILLERY_MACHINES"  # "2x8": machines of this job and GPUs of each; rules/nodes.smk says it
SCRIPT = ROOT / "slurm/ray.sh"
KEPT = ("SLURM_JOB_ID", "SLURM_CONF")  # of what Slurm told this step: the rest would bind another step to this one's machine
ENDS_WITHIN = 20.0  # seconds, of srun when it is told to


@dataclass(frozen=True)
class Machines:
    """address      of the Ray that verl joins; "": of none, verl starts its own
    count        machines that it has
    environment  what a process needs to join
    families     processes that hold it: where one of them has ended, a machine is lost
    """

    address: str = ""
    count: int = 1
    environment: dict[str, str] = field(default_factory=dict)
    families: tuple[Family, ...] = ()

    def whole(self) -> bool:
        return all(family.alive() for family in self.families)


@contextmanager
def machines(address: str, python: Path) -> Iterator[Machines]:
    """The Ray that runs at the address; without one, where the job has several machines, a Ray on all of them, until the block ends.

    `python`: of verl's environment, at the same place on all machines. Nobody joins who does not know the token made here. Raises UserError
    where machines are asked for and this is no Slurm job.
    """
    count, gpus = map(int, os.environ.get(ASKED, "1x0").split("x"))
    if address or count == 1:
        yield Machines(address)
        return
    if "SLURM_JOB_ID" not in os.environ:
        what = f"{count} machines are those of a Slurm job (--profile slurm), or of a Ray that runs already (trainer.address)"
        raise UserError("resources.nodes", what)
    address = f"{own_address()}:{free_port('')}"
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_") or name in KEPT} | secret
    asks = [
        f"--nodes={count - 1}",
        f"--ntasks={count - 1}",
        "--ntasks-per-node=1",
        f"--exclude={os.environ['SLURMD_NODENAME']}",
    ]
    asks += ["--overlap", "--mem=0", "--cpu-bind=none", "--kill-on-bad-exit=1", *([f"--gpus-per-node={gpus}"] if gpus else [])]
    ray = [str(SCRIPT), str(python), str(gpus)]
    with ExitStack() as started:
        head = Family([*ray, "head", address], deaf=True, env=os.environ | secret)
        started.callback(head.end, 0.0)
        others = Family([real(), *asks, *ray, "join", address], env=plain)
        started.callback(others.end, ENDS_WITHIN)
        yield Machines(address, count, secret, (head, others))


def own_address() -> str:
    """By which others reach this machine: of the network that looks outward, else of its name."""
    with socket.socket(type=socket.SOCK_DGRAM) as outward:
        try:
            outward.connect(("192.0.2.1", 9))  # nothing is sent
            return outward.getsockname()[0]
        except OSError:
            return socket.gethostbyname(socket.gethostname())
