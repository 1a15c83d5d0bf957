"""A real Slurm on loopback: slurmctld and one slurmd per fake node, each node with CPUs, memory and GPUs that it pretends to have.

Runs as the user who calls it, without munge or accounting, in one short folder; only the packages' installation needs root.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from getpass import getuser
from pathlib import Path

from tests import debian

PACKAGES = ("slurmctld", "slurmd", "slurm-client")
CONF = """
ClusterName=loop
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
AuthInfo=cred_expire=5
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_min_interval=2000,sched_interval=1,bf_interval=1,batch_sched_delay=0
GresTypes=gpu
ReturnToService=2
KillWait=30
MinJobAge=3600
SlurmdTimeout=20
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
PartitionName=gpu Nodes=ALL Default=YES MaxTime=60 DefaultTime=10 State=UP PriorityTier=10 PreemptMode=off
PartitionName=low Nodes=ALL MaxTime=60 DefaultTime=10 State=UP PriorityTier=1 PreemptMode=requeue GraceTime={grace}
PartitionName=lowcancel Nodes=ALL MaxTime=60 DefaultTime=10 State=UP PriorityTier=1 PreemptMode=cancel
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 Boards=1 SocketsPerBoard=1 CoresPerSocket=4 "
    "ThreadsPerCore=1 RealMemory={memory} Gres=gpu:fake:2 State=UNKNOWN\n"
)


def install() -> None:
    """Slurm's daemons and commands from the distribution, with nothing started by it."""
    if shutil.which("slurmctld", path=_path()) and shutil.which("slurmd", path=_path()) and shutil.which("sbatch"):
        return
    debian.install(PACKAGES, "tests/slurm")


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _free_ports(count: int) -> list[int]:
    taken = [socket.socket() for _ in range(count)]
    for s in taken:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in taken]
    for s in taken:
        s.close()
    return ports


class LoopSlurm:
    """`with LoopSlurm() as slurm:`; `slurm.env` is the environment in which every Slurm command talks to this cluster."""

    def __init__(self, nodes: int = 9, grace: int = 0, memory: int = 5000):
        install()
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # short: sockets have 108 characters
        for part in ("state", "spool", "log", "dev"):
            (self.folder / part).mkdir()
        self.nodes = [f"n{i + 1}" for i in range(nodes)]
        host, (port, *ports) = socket.gethostname().split(".")[0], _free_ports(nodes + 1)
        conf = CONF.format(host=host, port=port, user=getuser(), folder=self.folder, grace=grace)
        conf += "".join(NODE.format(name=n, host=host, port=p, memory=memory) for n, p in zip(self.nodes, ports, strict=True))
        self.conf = self.folder / "slurm.conf"
        self.conf.write_text(conf)
        for i, target in enumerate(("/dev/null", "/dev/zero")):  # a GPU must be a device file
            (self.folder / f"dev/nvidia{i}").symlink_to(target)
        files = f"Name=gpu Type=fake Flags=nvidia_gpu_env File={self.folder}/dev/nvidia[0-1]\n"
        (self.folder / "gres.conf").write_text(f"AutoDetect=off\nNodeName=n[1-{nodes}] {files}")
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\n")
        self.env = os.environ | {"SLURM_CONF": str(self.conf), "PATH": _path()}
        self.daemons: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> LoopSlurm:
        try:
            self.start("slurmctld")
            for node in self.nodes:
                self.start(node)
            self._until("all nodes idle", lambda: self._count("idle") == len(self.nodes), 30)
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self, name: str) -> None:
        """Start "slurmctld" or a node's slurmd."""
        command = ["slurmctld", "-D"] if name == "slurmctld" else ["slurmd", "-D", "-N", name]
        command = [
            "setpriv",
            "--pdeathsig",
            "TERM",
            *command,
            "-f",
            str(self.conf),
        ]  # they end with the tests, however those end
        with open(self.folder / f"log/{name}.out", "ab") as out:
            self.daemons[name] = subprocess.Popen(
                command, env=self.env, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )
        if name == "slurmctld":
            self._until("slurmctld up", lambda: "UP" in self.run("scontrol", "ping", check=False), 20)

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        daemon = self.daemons.pop(name)
        daemon.send_signal(number)
        daemon.wait(30)

    def processes(self, job: str) -> list[int]:
        """All processes of a job, its slurmstepds included."""
        mark = f"SLURM_JOB_ID={job}".encode()

        def mine(process: int) -> bool:
            read = lambda part: Path(f"/proc/{process}/{part}").read_bytes()
            try:
                return read("cmdline").startswith(f"slurmstepd: [{job}.".encode()) or mark in read("environ").split(b"\0")
            except OSError:
                return False  # gone

        return [process for process in self.leftovers() if mine(process)]

    def crash(self, node: str, job: str) -> None:
        """The node dies, with all that the job runs on it."""
        self.stop(node, signal.SIGKILL)
        for process in self.processes(job):
            os.kill(process, signal.SIGKILL)

    def run(self, *command: str, check: bool = True) -> str:
        run = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)
        if check and run.returncode:
            raise RuntimeError(f"{' '.join(command)}: {run.stderr.strip()}")
        return run.stdout.strip()

    def jobs(self) -> list[dict[str, str]]:
        """All jobs that slurmctld remembers: id, state, node, folder, comment (rule and wildcards); by id."""
        keys = ("id", "state", "node", "folder", "comment")
        rows = self.run("squeue", "-h", "-t", "all", "-S", "i", "-o", "%i|%T|%N|%Z|%k").splitlines()
        return [dict(zip(keys, row.split("|"), strict=True)) for row in rows]

    def _count(self, state: str) -> int:
        return self.run("sinfo", "-h", "-N", "-p", "gpu", "-t", state, "-o", "%N", check=False).count("n")

    def _until(self, what: str, true, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            dead = [n for n, d in self.daemons.items() if d.poll() is not None]
            if dead or time.monotonic() > deadline:
                tails = "".join(p.read_text()[-1500:] for p in sorted((self.folder / "log").glob("*")))
                raise RuntimeError(f"Slurm on loopback: not {what}; ended: {dead}\n{tails}")
            time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        """Cancel all jobs, wait for them, stop the daemons, kill what is left of our own, delete the folder."""
        if "slurmctld" in self.daemons and self.daemons["slurmctld"].poll() is None:
            self.run("scancel", "--user", getuser(), check=False)
            deadline = time.monotonic() + 45
            while self.run("squeue", "-h", check=False) and time.monotonic() < deadline:
                time.sleep(0.3)
        for daemon in self.daemons.values():
            daemon.terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
        for process in self.leftovers():
            os.kill(process, signal.SIGKILL)
        shutil.rmtree(self.folder)

    def leftovers(self) -> list[int]:
        """Processes that belong to this cluster: those whose environment names its slurm.conf (slurmstepd, batch scripts, steps)."""
        found, mark = [], f"SLURM_CONF={self.conf}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
                except OSError:
                    continue  # gone, or not ours
        return found
