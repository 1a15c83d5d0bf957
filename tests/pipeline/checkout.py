"""A throw-away checkout of the workflow, and Snakemake run in it as a user would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("workflow", "rules", "envs", "opd_steps", "slurm", "config.yaml")
SMOKE = Path(__file__).parent / "smoke.yaml"


class Checkout:
    """Copies of the repository's parts in `folder`; `smoke` is a paper with every stage kind, a few steps each."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / part)
        shutil.copy(SMOKE, folder / "workflow/papers/smoke.yaml")

    @property
    def paper(self) -> Path:
        return self.folder / "workflow/papers/smoke.yaml"

    def without(self, paper: str) -> Checkout:
        (self.folder / f"workflow/papers/{paper}.yaml").unlink()
        return self

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) >= 1, f"{old!r} does not stand in {file}"
        path.write_text(text.replace(old, new))

    def command(self, *args: str) -> dict:
        """What to run, where and in which environment, for subprocess: Snakemake with two cores, stdout and stderr joined."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *args]
        if not any(a.startswith("papers=") for a in args):
            command += ["--config", "papers=[smoke]"]
        env = {k: v for k, v in os.environ.items() if k != "SNAKEMAKE_PROFILE"}
        env |= {
            "PATH": f"{Path(sys.executable).parent}:{env['PATH']}",
            "OMP_NUM_THREADS": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        return {"args": command, "cwd": self.folder, "env": env, "text": True, "stderr": subprocess.STDOUT}

    def snakemake(self, *args: str, check: bool = True) -> subprocess.CompletedProcess:
        run = subprocess.run(**self.command(*args), stdout=subprocess.PIPE)
        assert not check or run.returncode == 0, run.stdout[-6000:]
        return run

    def planned(self, *args: str) -> set[str]:
        """What a dry run would do: {"opd smoke/vopd seed 0", "track", ...} (from the rules' messages)."""
        text = self.snakemake("-n", *args).stdout
        found = re.findall(r"^(?:Job \d+|localrule \w+|rule \w+)?:? ?(\w+): (\w+/\w+ seed \d+|smoke seed \d+)$", text, re.M)
        jobs = {f"{kind} {what}" for kind, what in found}
        for name in ("outline", "track", "report"):
            if re.search(rf"^(?:localrule|rule) {name}:|^Job \d+: {name}\b", text, re.M):
                jobs.add(name)
        return jobs
