"""Packages of the distribution that tests need, installed with nothing started by it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def install(packages: tuple[str, ...], needed_by: str) -> None:
    """Raises RuntimeError where that is not possible: no root, no apt-get, no such package."""
    if os.getuid() or not shutil.which("apt-get"):
        raise RuntimeError(f"{needed_by} needs the packages {' '.join(packages)}; install them, or run as root on Debian")
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")  # install, start nothing
        policy.chmod(0o755)
    try:
        env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (("update",), ("install", "-y", "--no-install-recommends", *packages)):
            run = subprocess.run(["apt-get", "-q", *command], env=env, capture_output=True, text=True)
            if run.returncode:
                raise RuntimeError(f"apt-get {command[0]} failed:\n{run.stdout[-1000:]}{run.stderr[-2000:]}")
    finally:
        if ours:
            policy.unlink()
