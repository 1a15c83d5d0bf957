"""The process of a program: it runs its text, and answers calls of its function until nobody asks."""

from __future__ import annotations

import io
import os
import sys
import types

from opd_steps.tasks.sandbox.plain import pack, receive, send, unpack

LINK = 0


class _Nowhere(io.TextIOBase):
    """What a program prints to."""

    def write(self, text: str) -> int:
        return len(text)


def serve() -> None:
    """Messages [program, function], then [args, kwargs] again and again; to each of the latter ["gave", value] or ["raised", name].

    A program that ends itself, or cannot be loaded, leaves its calls without answers.
    """
    sys.stdin, sys.stdout, sys.stderr = io.StringIO(), _Nowhere(), _Nowhere()
    text, function = receive(LINK)
    module = sys.modules["program"] = types.ModuleType("program")
    exec(compile(text, "program", "exec"), module.__dict__)
    call = module.__dict__[function]
    while True:
        args, kwargs = map(unpack, receive(LINK))
        try:
            answer = ["gave", pack(call(*args, **kwargs))]
        except Exception as error:
            answer = ["raised", type(error).__name__]
        send(LINK, answer)


def run() -> None:
    try:
        serve()
    finally:
        os._exit(0)
