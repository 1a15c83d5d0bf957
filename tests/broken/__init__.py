"""Broken inputs, made by hypothesis: each is taken, or refused with one line that names its place. Never a traceback, nothing changed.

`python -m tests.broken --cases 2000 --seed 3` looks for more than the tests do, and lists what it finds.
"""
