"""The walls around a process that runs a program: what the kernel still does for it, and how much of it.

A seccomp filter lets a process manage its memory, look at the clock, end, and read and write the descriptors that it is given. All
else fails with PermissionError: files, sockets, processes and threads, signals, changes of its own limits. No privilege is needed,
and root is no exception; the filter holds for machine code too, whatever Python is made to do.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_OPEN = (
    *("mmap", "mprotect", "munmap", "mremap", "brk", "madvise"),
    *("clock_gettime", "clock_getres", "gettimeofday", "time", "getpid", "getrandom"),
    *("exit", "exit_group", "rt_sigreturn"),
)
_EXECUTABLE = 4  # PROT_EXEC, in the third argument of mmap and mprotect
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_EQUAL, _MASKED_EQUAL = 4, 7
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class _Compare(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


class Walls:
    """Built once, put up in each child. `links`: how many descriptors it may use, 0 and on. Raises OSError where they cannot be had."""

    def __init__(self, links: int):
        self.links, self.libc = links, ctypes.CDLL(None, use_errno=True)
        self.seccomp = _library()
        self.seccomp.seccomp_init.restype = ctypes.c_void_p
        self.filter = ctypes.c_void_p(self.seccomp.seccomp_init(_REFUSE))
        for name in _OPEN:
            self._allow(name, *([_Compare(2, _MASKED_EQUAL, _EXECUTABLE, 0)] if name in ("mmap", "mprotect") else []))
        for name in ("read", "write"):
            for link in range(links):
                self._allow(name, _Compare(0, _EQUAL, link, 0))

    def _allow(self, name: str, *compared: _Compare) -> None:
        number = self.seccomp.seccomp_syscall_resolve_name(name.encode())
        if number < 0:  # this kind of processor has no such call
            return
        held = (_Compare * len(compared))(*compared)
        if status := self.seccomp.seccomp_rule_add_array(self.filter, _ALLOW, number, len(compared), held):
            raise OSError(-status, f"seccomp refuses the rule of {name}: {os.strerror(-status)}")

    def put_up(self, links: Sequence[socket.socket], seconds: float, patience: float, memory: int) -> None:
        """Around this process, for good. It keeps `links` as descriptors 0, 1 ...

        seconds   of CPU time, then the kernel ends it; patience: of the wall's clock
        memory    bytes of address space
        """
        ends = [os.dup(link.fileno()) for link in links]  # all above the places that they go to
        for place, end in enumerate(ends):
            os.dup2(end, place)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        os.closerange(self.links, 1 << 20 if most == resource.RLIM_INFINITY else most)
        for number in (signal.SIGPROF, signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # whatever the job had left
        self.libc.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        for limit, value in (("AS", memory), ("CPU", math.ceil(seconds) + 1), ("CORE", 0), ("FSIZE", 0)):
            _lower(getattr(resource, f"RLIMIT_{limit}"), value)
        signal.setitimer(signal.ITIMER_PROF, seconds)  # unhandled, both end this process
        signal.setitimer(signal.ITIMER_REAL, patience)
        if status := self.seccomp.seccomp_load(self.filter):
            os._exit(-status)


def stand(walls: Walls) -> bool:
    """Does a child behind them fail at what it must not do?"""
    forbidden = (
        lambda: os.open("/", os.O_RDONLY),
        socket.socket,
        os.fork,
        lambda: os.kill(os.getppid(), 0),
        lambda: os.execv(sys.executable, [sys.executable]),
    )
    if child := os.fork():
        return os.waitpid(child, 0)[1] == 0
    try:
        ours, theirs = socket.socketpair()
        walls.put_up([ours, theirs][: walls.links], 5, 60, 1 << 30)
        os._exit(0 if all(map(_refused, forbidden)) else 1)
    finally:
        os._exit(2)


def _refused(act: Callable[[], object]) -> bool:
    try:
        act()
    except PermissionError:
        return True
    return False


def _lower(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))


def _library() -> ctypes.CDLL:
    for place in ("libseccomp.so.2", str(Path(sys.prefix, "lib/libseccomp.so.2"))):
        try:
            return ctypes.CDLL(place)
        except OSError as error:
            missing = error
    raise missing
