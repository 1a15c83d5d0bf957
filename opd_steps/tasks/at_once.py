"""Several things at a time, for work that other processes do: threads that wait."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from opd_steps.process.launch import world_size

Thing, Made = TypeVar("Thing"), TypeVar("Made")


def at_once(act: Callable[[Thing], Made], things: Sequence[Thing]) -> list[Made]:
    """What `act` makes of each, in order: as many at a time as there are CPUs for this process, of those that train as one."""
    if len(things) < 2:
        return [act(thing) for thing in things]
    with ThreadPoolExecutor(min(len(things), width())) as threads:
        return list(threads.map(act, things))


def width() -> int:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cpus // world_size())
