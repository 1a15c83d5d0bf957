"""Programs that a model wrote, run behind walls that the kernel keeps, and judged by tests that they cannot reach.

    judge.py    in the job: at most so many trials at once
    keeper.py   a small process of its own, without the job's memory and environment; it forks two processes a trial:
    program.py  one runs the program, and answers calls with plain values (plain.py)
    tests.py    one runs the tests, and asks it
    walls.py    around each of the two: no files, no network, no processes; limits of time and memory

The tests compare values that were rebuilt from text in their own process. So a program cannot patch the tests, forge a verdict or
bring an object that equals everything: it can only answer.
"""
