"""The process that forks the trials. It begins with an empty environment, reads nothing but limits, and has what a program may import."""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import signal
import socket
import sys

from opd_steps.tasks.sandbox import program, tests, walls

# read before the walls are up: behind them no file can be
MODULES = (
    *("abc", "array", "ast", "base64", "binascii", "bisect", "calendar", "cmath", "collections", "collections.abc", "colorsys"),
    *(
        "contextlib",
        "copy",
        "csv",
        "dataclasses",
        "datetime",
        "_strptime",
        "decimal",
        "difflib",
        "enum",
        "fractions",
        "functools",
    ),
    *("graphlib", "hashlib", "heapq", "hmac", "html", "inspect", "io", "itertools", "json", "keyword", "locale", "math"),
    *("numbers", "operator", "os", "pprint", "queue", "random", "re", "secrets", "statistics", "string", "struct", "sys"),
    *("textwrap", "threading", "time", "timeit", "traceback", "types", "typing", "unicodedata", "unittest", "urllib.parse"),
    *("uuid", "warnings", "weakref", "zlib", "zoneinfo"),
    *("encodings.ascii", "encodings.latin_1", "encodings.utf_8", "encodings.utf_16", "encodings.utf_32", "encodings.idna"),
)


def main(control: int) -> None:
    """One message a trial: its limits as JSON, with the socket on which the job tells the tests' process the rest."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # meant for the job, which ends this process by leaving
    sys.set_int_max_str_digits(0)
    try:
        around = {run: walls.Walls(links) for run, links in ((program.run, 1), (tests.run, 2))}
        problem = "" if all(map(walls.stand, around.values())) else "the kernel does not keep a process from files and sockets"
    except OSError as error:
        problem = str(error)
    with socket.socket(fileno=control) as job:
        job.send(problem.encode() or b"ready")
        if problem:
            return
        for name in MODULES:
            importlib.import_module(name)
        sys.path.clear()
        random.seed(0)  # every trial draws the same
        gc.collect()
        gc.freeze()  # children share these pages
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
        while True:
            limits, sockets, *_ = socket.recv_fds(job, 4096, 1)
            if not sockets:
                return
            with socket.socket(fileno=sockets[0]) as told:
                _trial(told, json.loads(limits), around)


def _trial(told: socket.socket, limits: dict, around: dict) -> None:
    asks, answers = socket.socketpair()
    with asks, answers:
        for run, links in ((program.run, [answers]), (tests.run, [asks, told])):
            if os.fork() == 0:
                try:
                    around[run].put_up(links, **limits)
                    run()
                finally:
                    os._exit(1)
