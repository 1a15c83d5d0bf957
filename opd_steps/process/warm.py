"""Steps that skip their start-up: a process that has imported what every step imports, and forks itself for each job.

`python -m opd_steps.process.warm opd --config ...` is what rules run. When a run's server answers (environment variable
DISTILLERY_WARM: its socket), the step runs in a fork of the server, with the caller's environment, folder, standard streams,
signals and end; else it starts as `python -m opd_steps.steps.opd`. Either way it gets SIGTERM when the run is gone. Importing torch,
transformers and lm-eval costs 3 to 5 CPU seconds, the fork some milliseconds. Results do not differ: nothing but imports happens before
the fork. With `--processes 2` the step is several processes, each with its own start (opd_steps.process.launch).
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterable
from pathlib import Path

from opd_steps.process.launch import PASSED_ON, launch
from opd_steps.process.lifetime import closing, end_with_parent
from opd_steps.store.fingerprint import source_hash

ADDRESS = "DISTILLERY_WARM"


def start_server(modules: Iterable[str]) -> None:
    """Start a server for the jobs of this process, which run these modules; it ends by itself after this process and the last job."""
    try:
        folder = tempfile.mkdtemp(prefix="distillery-")
    except OSError:  # no room for a socket: the steps do their own imports
        return
    os.environ[ADDRESS] = f"{folder}/socket"
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",  # read when torch is imported; a job sets its own number
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # a library that asks for GPUs must not start CUDA: it does not survive a fork
    }
    subprocess.Popen([sys.executable, "-m", "opd_steps.process.warm", "--serve", str(os.getpid()), *modules], env=environment)


def serve(address: str, parent: int, modules: Iterable[str]) -> None:
    """Import the modules, and answer until the process `parent` is gone and the last job has ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)  # Ctrl-C reaches the whole group; jobs decide for themselves
    for module in modules:
        importlib.import_module(module)
    loaded = _package_files()
    for file in loaded:
        source_hash(file)  # which each step asks for
    if sys.modules["torch"].cuda.is_initialized():
        return  # the forks could not use it: every job does its own imports
    gc.freeze()  # what is there now stays shared between the forks
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as waiting:
        listener.bind(address + ".new")
        listener.listen(64)
        os.rename(address + ".new", address)  # from now on jobs find it
        waiting.register(listener, selectors.EVENT_READ)
        jobs: dict[int, tuple[socket.socket, int]] = {}  # pid: (its caller, pidfd)
        while jobs or os.getppid() == parent:
            for key, _ in waiting.select(timeout=1.0):
                if key.fileobj is listener:
                    _accept(listener, waiting, jobs, os.getppid() == parent, loaded != _package_files())
                elif key.data in jobs:
                    _ended(key, waiting, jobs)
    with contextlib.suppress(OSError):
        os.unlink(address)
        os.rmdir(os.path.dirname(address))


def _package_files() -> dict[Path, tuple[int, int]]:
    """The package's files that are loaded, as they are on disk."""
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "opd_steps"]
    stats = {Path(m.__file__): os.stat(m.__file__) for m in modules if m.__file__ and os.path.exists(m.__file__)}
    return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in stats.items()}


def _accept(listener: socket.socket, waiting: selectors.BaseSelector, jobs: dict, wanted: bool, stale: bool) -> None:
    """Fork the job that a caller asks for, unless the run is gone that wanted it.

    `stale`: what is loaded here is not what is on disk any more; the caller then does its own imports.
    """
    caller, _ = listener.accept()
    if not wanted:
        caller.close()
        return
    try:
        request, fds = _receive(caller)
    except (OSError, ValueError, EOFError):  # a caller that went away
        caller.close()
        return
    if stale:
        with contextlib.suppress(OSError):
            caller.sendall(b"-\n")
        caller.close()
        for fd in fds:
            os.close(fd)
        return
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        listener.close()
        for other, pidfd in jobs.values():
            other.close()
            os.close(pidfd)
        caller.close()
        _run(request, fds)
    for fd in fds:
        os.close(fd)
    pidfd = os.pidfd_open(pid)
    jobs[pid] = caller, pidfd
    with contextlib.suppress(OSError):
        caller.sendall(f"{pid}\n".encode())
    waiting.register(pidfd, selectors.EVENT_READ, pid)
    waiting.register(caller, selectors.EVENT_READ, pid)


def _ended(key: selectors.SelectorKey, waiting: selectors.BaseSelector, jobs: dict) -> None:
    """A job has ended: tell its caller. Or its caller has: a job goes with the process that stands for it."""
    pid = key.data
    caller, pidfd = jobs[pid]
    if key.fileobj is caller:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        caller.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    for thing in (caller, pidfd):
        waiting.unregister(thing)
    caller.close()
    os.close(pidfd)
    del jobs[pid]


def _run(request: dict, fds: list[int]) -> None:
    """The job, in the fork."""
    code = 1
    try:
        end_with_parent(signal.SIGKILL)
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
            os.close(fd)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        module = sys.modules["torch"]
        if (threads := int(os.environ.get("OMP_NUM_THREADS", "0"))) != module.get_num_threads() and threads:
            module.set_num_threads(threads)
        step, *sys.argv[1:] = request["arguments"]
        sys.modules.pop(f"opd_steps.steps.{step}", None)  # it runs once more, as the main module
        runpy.run_module(f"opd_steps.steps.{step}", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else print(stop.code, file=sys.stderr) or 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            closing.close()
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def ask(address: str, arguments: list[str]) -> int | None:
    """Have the server run a step and return its exit status; None when no server answers."""
    pid, early = 0, []

    def pass_on(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number) if pid else early.append(number)

    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(address)
        except OSError:
            return None
        for number in PASSED_ON:
            signal.signal(number, pass_on)
        request = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
        data = json.dumps(request).encode()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
        connection.sendmsg([len(data).to_bytes(8, "big")], rights)
        connection.sendall(data)
        with connection.makefile() as answers:
            if (answer := answers.readline()) == "-\n":
                for number in PASSED_ON:
                    signal.signal(number, signal.SIG_DFL)
                return None
            pid = int(answer or 0)
            for number in early if pid else ():
                pass_on(number, None)
            status = answers.readline()
    if not status:
        print("the process that ran this step is gone", file=sys.stderr)
        return 1
    code = int(status)
    if code < 0:  # a signal ended it: so it does its caller
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    return code


def _receive(caller: socket.socket) -> tuple[dict, list[int]]:
    caller.settimeout(10)  # nobody keeps the others waiting
    head, fds, _, _ = socket.recv_fds(caller, 8, 3)
    size, data = int.from_bytes(head, "big"), b""
    while len(data) < size:
        if not (more := caller.recv(size - len(data))):
            raise EOFError
        data += more
    caller.settimeout(None)
    return json.loads(data), fds


def main() -> None:
    step, *rest = sys.argv[1:]
    if step == "--serve":
        return serve(os.environ[ADDRESS], int(rest[0]), rest[1:])
    end_with_parent(signal.SIGTERM)  # the run that asked for the step: if it is killed, a training saves and ends
    if rest[:1] == ["--processes"]:
        count, rest = int(rest[1]), rest[2:]
        if count > 1:
            sys.exit(launch(count, f"opd_steps.steps.{step}", rest))
    status = ask(os.environ[ADDRESS], [step, *rest]) if ADDRESS in os.environ else None
    if status is None:
        os.execv(sys.executable, [sys.executable, "-m", f"opd_steps.steps.{step}", *rest])
    sys.exit(status)


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    main()
