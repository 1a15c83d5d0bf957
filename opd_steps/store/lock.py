"""An exclusive lock on a folder: a file that is held open with flock and names its owner.

The kernel drops it when the owner dies, however it dies. Over NFS Linux turns flock into a byte-range lock on the server, so that it holds
between machines; a file system that cannot lock is refused rather than trusted.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import TextIO

from opd_steps.errors import UserError

POLL = 1.0  # seconds between two tries


def acquire(path: Path, taken: str, wait: float = 0.0) -> TextIO:
    """Lock `path`, whose folder is made if need be; close the returned file to let go.

    Raises UserError `taken` with the owner's name if another process still holds it after `wait` seconds.
    """
    deadline, told = time.monotonic() + wait, False
    while True:
        handle, owner = _attempt(path)
        if handle:
            return handle
        if time.monotonic() >= deadline:
            raise UserError(str(path.parent), f"{taken}: {owner}")
        if not told:
            print(f"{taken}: {owner}; waiting for it, at most {wait:.0f} s", flush=True)
            told = True
        time.sleep(POLL)


def _attempt(path: Path) -> tuple[TextIO | None, str]:
    """(the locked file, "") or (None, its owner). The owner may delete the file and its folder at any moment."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+")
    except FileNotFoundError:
        return None, "a process that is just ending"
    except OSError as error:
        raise UserError(str(path), f"cannot write here: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with handle:
            handle.seek(0)
            return None, handle.read().strip()
    except OSError as error:
        raise UserError(str(path), f"this file system has no file locks ({error}); put results on one that has") from None
    if not _is_still(path, handle):  # locked too late: its owner has deleted it
        handle.close()
        return None, "a process that is just ending"
    try:
        handle.truncate(0)
        os.write(handle.fileno(), f"{_me()}\n".encode())
    except OSError as error:
        handle.close()
        raise UserError(str(path), f"cannot write here: {error.strerror}") from None
    return handle, ""


def _is_still(path: Path, handle: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except OSError:
        return False


def _me() -> str:
    job = os.environ.get("SLURM_JOB_ID")
    return f"host {socket.gethostname()}, pid {os.getpid()}" + (f", Slurm job {job}" if job else "")
