"""On the PYTHONPATH of a run (tests/chaos/trial.py): counts its changes of files by what they belong to, and at one of them SIGKILLs its
whole process group, just before the change or just behind it. Python imports this module by its name in every process."""

import builtins
import io
import os
import signal

ROOT, COUNTS, KILL = (os.environ.get(f"CHAOS_{name}", "") for name in ("ROOT", "COUNTS", "KILL"))
WRITES, CHANGES = set("wax+"), ("replace", "rename", "unlink", "remove", "mkdir", "rmdir")
os_open, os_write, os_lseek, os_close = os.open, os.write, os.lseek, os.close


def kind(path: str) -> str:
    """What a file belongs to; "" for what no run depends on."""
    inside = os.path.relpath(path, ROOT)
    if inside.startswith(".snakemake/"):
        return "records"
    if not inside.startswith("results/"):
        return ""
    if "mlartifacts" in inside or "mlflow" in inside:
        return "tracking"
    if inside.startswith("results/report"):
        return "report"
    return "checkpoint" if "/checkpoint-" in inside or inside.endswith("metrics.jsonl") else "publish"


def place(path, dir_fd=None) -> str:
    path = os.fspath(path)
    path = os.fsdecode(path) if isinstance(path, bytes) else path
    return os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}") if dir_fd is not None else os.getcwd(), path)


def event(what: str, path: str) -> None:
    """One more; a byte behind the others is its number, for all processes of the run."""
    if not (of := kind(path)):
        return
    counter = os_open(f"{COUNTS}/{of}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os_write(counter, b".")
    number = os_lseek(counter, 0, os.SEEK_CUR)
    os_close(counter)
    if f"{of}:{number}" == KILL:
        said = os_open(f"{COUNTS}/killed", os.O_WRONLY | os.O_CREAT)
        os_write(said, f"{what} {os.path.relpath(path, ROOT)}".encode())
        os.killpg(0, signal.SIGKILL)


def counted(name: str, function):
    def call(path, *args, **options):
        try:
            at = place(path, options.get("dir_fd", options.get("src_dir_fd")))
        except (OSError, TypeError, ValueError):
            return function(path, *args, **options)
        event(f"before {name}", at)
        result = function(path, *args, **options)
        event(f"behind {name}", at)
        return result

    return call


def opened(function):
    def call(file, mode="r", *args, **options):
        handle = function(file, mode, *args, **options)
        if isinstance(mode, str) and WRITES & set(mode) and not isinstance(file, int):
            event("behind open", place(file))
        return handle

    return call


if ROOT:
    for change in CHANGES:
        setattr(os, change, counted(change, getattr(os, change)))
    builtins.open = io.open = opened(open)
