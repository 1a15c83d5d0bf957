"""A PostgreSQL of its own on loopback, and an MLflow server on it; both end with the `with` block."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from tests.debian import install

USER = "distillery"
WAIT = 180  # seconds, on a busy machine


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def binaries() -> Path:
    """The newest PostgreSQL of the distribution, installed where there is none."""
    where = lambda: sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not where():
        install(("postgresql",), "tests/postgres")
    return where()[-1].parent


class Postgres:
    """`uri`: of its one database. Runs as the user `postgres` where root calls it, which PostgreSQL refuses to be."""

    def __init__(self):
        self.bin, self.port = binaries(), free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short: sockets have 108 characters
        self.uri = f"postgresql://{USER}:secret@127.0.0.1:{self.port}/postgres"
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Postgres:
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        self._run("initdb", "-D", self.folder / "data", "-U", USER, "-A", "trust", "--no-sync", stdout=subprocess.DEVNULL)
        self.start()
        return self

    def _command(self, program: str, *options: object) -> list[str]:
        user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        return [*user, *map(str, (self.bin / program, *options))]

    def _run(self, program: str, *options: object, **how) -> None:
        subprocess.run(self._command(program, *options), check=True, cwd=self.folder, **how)

    def start(self) -> None:
        log = (self.folder / "log").open("a")
        options = ("-D", self.folder / "data", "-p", self.port, "-k", self.folder, "-h", "127.0.0.1", "-F")
        self.process = subprocess.Popen(self._command("postgres", *options), cwd=self.folder, stdout=log, stderr=log)
        for _ in range(WAIT * 5):
            ready = self._command("pg_isready", "-q", "-h", "127.0.0.1", "-p", self.port)
            if subprocess.run(ready, cwd=self.folder).returncode == 0:
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.2)
        raise TimeoutError("PostgreSQL does not answer")

    def stop(self) -> None:
        """At once, as if the machine had lost its power."""
        self._run("pg_ctl", "stop", "-D", self.folder / "data", "-m", "immediate", stdout=subprocess.DEVNULL)
        self.process.wait(timeout=60)

    def __exit__(self, *error) -> None:
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder)


@contextmanager
def mlflow_server(database: str, files: Path):
    """The address of an MLflow server as docs/tracking.md has it: runs in `database`, artifacts below `files`."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        database,
        "--artifacts-destination",
        files.as_uri(),
    ]
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    log = (files.parent / "server.log").open("w")
    process = subprocess.Popen(
        [*command, "--port", str(port), "--workers", "1"], env=env, stdout=log, stderr=log, start_new_session=True
    )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(WAIT * 2):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=1)
                break
            except OSError:
                assert process.poll() is None, (files.parent / "server.log").read_text()[-2000:]
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)
