"""Ranks that are forks of this process: they cost no import, and know what it knows."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opd_steps.process import ranks

PATIENCE = 240  # seconds


@dataclass(frozen=True)
class Raised:
    kind: type
    says: str


def on_ranks(count: int, do: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `do(*arguments)` gives on each of `count` ranks, or what it Raised."""
    context, pipes = multiprocessing.get_context("fork"), []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for rank in range(count):
        mine, its = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(its, rank, count, port, do, arguments), daemon=True)
        process.start()
        its.close()
        pipes.append((mine, process))
    found = []
    for mine, process in pipes:
        found.append(mine.recv() if mine.poll(PATIENCE) else Raised(TimeoutError, "it hangs"))
        process.kill()
        process.join()
    return found


def _run(pipe, rank: int, count: int, port: int, do: Callable[..., Any], arguments: tuple) -> None:
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()})
    try:
        ranks.join()
        found = do(*arguments)
    except BaseException as error:
        traceback.print_exc()
        found = Raised(type(error), str(error))
    pipe.send(found)
    while True:  # an end of its own would break the others' connections
        time.sleep(1)
