"""Processes that hold a simulator each, in an environment of their own, and are asked all at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from opd_steps.errors import UserError
from opd_steps.store.fingerprint import ROOT


class Simulators:
    """`module`: what such a process runs, given the number of its end of a socket; `make`: the target that makes its environment,
    .venv/<make>, in place of which the Python that the environment variable DISTILLERY_<MAKE>_PYTHON names is taken.

    They start when they are first asked, and end with the process that asks.
    """

    def __init__(self, module: str, make: str):
        self.module, self.make = module, make
        self._sockets: list[Any] = []

    def python(self) -> Path:
        """Raises UserError where there is none."""
        named = os.environ.get(variable := f"DISTILLERY_{self.make.upper()}_PYTHON")
        found = Path(named) if named else Path(sys.prefix) / self.make / "bin/python"
        if not found.is_file():
            raise UserError(
                str(found), f"the environment of the simulator is not there: make {self.make}, or name its Python in {variable}"
            )
        return found

    def ask(self, questions: Mapping[int, tuple]) -> dict[int, Any]:
        """The answers to questions by the number of who is asked. Raises UserError with what went wrong in one of them."""
        while len(self._sockets) <= max(questions):
            self._start()
        for number, question in questions.items():
            with suppress(ConnectionError):  # of one that has ended there is no answer
                self._sockets[number].send(question)
        return {number: self._answer(self._sockets[number]) for number in questions}

    def _answer(self, socket: Any) -> Any:
        try:
            said = socket.recv()
        except (EOFError, ConnectionError):
            raise UserError(self.make, "a simulator has ended; what it said is above") from None
        if isinstance(said, str):
            raise UserError(self.make, f"the simulator failed: {said.splitlines()[0] if said else said}")
        return said

    def _start(self) -> None:
        ours, theirs = Pipe()
        env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [str(self.python()), "-m", self.module, str(theirs.fileno())]
        subprocess.Popen(command, pass_fds=[theirs.fileno()], env=env, stdin=subprocess.DEVNULL, cwd=ROOT)
        theirs.close()
        self._sockets.append(ours)
