"""The process of the tests: data of the task, which ask a program in another process."""

from __future__ import annotations

import builtins
import io
import os
import sys

from opd_steps.tasks.sandbox.plain import Gone, pack, receive, send, unpack

PROGRAM, JOB = 0, 1
RIGHT, WRONG = b"right", b"wrong"


class Asked:
    """The program's function, for tests to call. What it returns is rebuilt from text: built-in classes alone.

    lost   whether an answer never came: then no test counts, whatever it makes of that
    """

    def __init__(self):
        self.calls, self.lost = 0, False

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.calls += 1
        try:
            send(PROGRAM, [pack(args), pack(kwargs)])
            how, said = receive(PROGRAM)
            if how == "gave":
                return unpack(said)
        except BaseException:
            self.lost = True
            raise
        known = getattr(builtins, str(said), None)
        raise known() if isinstance(known, type) and issubclass(known, Exception) else Gone


def verdict() -> bool:
    """Does the program pass? The job's message: [program, function, reference, tests].

    reference   a program that is right: what the tests call by name, the function itself included, is the data's own
    tests       text that defines check(candidate), which raises for a wrong one
    """
    program, function, reference, tests = receive(JOB)
    send(PROGRAM, [program, function])
    asked, place = Asked(), {"__name__": "tests"}
    exec(compile(reference, "reference", "exec"), place)
    exec(compile(tests, "tests", "exec"), place)
    place["check"](asked)
    return asked.calls > 0 and not asked.lost


def run() -> None:
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), io.StringIO(), io.StringIO()
    try:
        right = verdict()
        os.write(JOB, RIGHT if right else WRONG)
    finally:
        os._exit(0)
