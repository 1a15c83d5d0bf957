"""Things that are waited for at the same time, each in a thread of its own that no end of the process waits for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class Threads:
    """At most `most` of them; they come as they are needed."""

    def __init__(self, most: int):
        self.most, self.idle = most, threading.Semaphore(0)
        self.todo: queue.SimpleQueue[tuple[Future, Callable[[], Any]]] = queue.SimpleQueue()
        self.count = 0

    def do(self, work: Callable[[], Any]) -> Future:
        """Its outcome, some time."""
        future: Future = Future()
        self.todo.put((future, work))
        if not self.idle.acquire(blocking=False) and self.count < self.most:
            self.count += 1
            threading.Thread(target=self._run, daemon=True).start()
        return future

    def _run(self) -> None:
        while True:
            future, work = self.todo.get()
            try:
                future.set_result(work())
            except BaseException as error:  # to whoever asks for the outcome
                future.set_exception(error)
            self.idle.release()
