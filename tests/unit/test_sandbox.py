"""Programs that attack: each is refused or judged wrong, and the judge goes on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from opd_steps.errors import UserError
from opd_steps.tasks.sandbox import judge as sandbox
from opd_steps.tasks.sandbox.judge import Limits, Trial, verdicts

LIMITS = Limits(seconds=1, memory=512 << 20)
SHORT = Limits(seconds=0.2, memory=512 << 20)
RIGHT = "def f(x):\n    return x + 1\n"
TESTS = "def check(candidate):\n    assert candidate(1) == 2\n    assert [candidate(n) for n in (5, 8)] == [6, 9]\n"


def trial(program: str, tests: str = TESTS, reference: str = RIGHT) -> Trial:
    return Trial(program, "f", reference, tests)


def passes(*programs: str, limits: Limits = LIMITS) -> list[bool]:
    return verdicts([trial(program) for program in programs], limits)


def goes_through(act: str) -> bool:
    """Does a program that is right but for this act pass? Then the act went through."""
    return passes(f"{act}\n{RIGHT}")[0]


@pytest.fixture
def anew():
    """A keeper that starts in this test's surroundings."""
    sandbox._keeper.cache_clear()
    yield
    sandbox._keeper.cache_clear()


def test_what_a_program_answers_is_compared():
    wrong = ["def f(x):\n    return x", "def f(x):\n    pass", "def g(x):\n    return x + 1", "f = 3", "", "def f(:"]
    assert passes(RIGHT, *wrong, RIGHT) == [True, *[False] * len(wrong), True]
    assert passes("import math, collections, typing, heapq, re, hashlib\nprint('hello')\n" + RIGHT) == [True]


@pytest.mark.parametrize(
    ("value", "twin"),
    [
        ("[1, (2, 'three'), {4}, {5: [6]}, None, 7.5, True]", "[1, (2, 'three'), {4}, {5: [6]}, None, 7.5, True]"),
        ("collections.Counter('aab')", "{'a': 2, 'b': 1}"),
        ("collections.namedtuple('P', 'x y')(1, 2)", "(1, 2)"),
        ("b'\\x00\\xff'", "b'\\x00\\xff'"),
        ("1 + 2j", "1 + 2j"),
        ("frozenset([1, 2])", "{2, 1}"),
        ("10 ** 5000", "10 ** 5000"),
        ("'\\ud800 \\x00 🙂'", "'\\ud800 \\x00 🙂'"),
        ("float('-inf')", "float('-inf')"),
        ("[0.1 + 0.2, -0.0]", "[0.30000000000000004, 0]"),
    ],
)
def test_values_come_through(value, twin):
    program = f"import collections\ndef f(x):\n    return {value} if x else x"
    tests = f"def check(candidate):\n    found = candidate(1)\n    assert found == {twin} and found != 1, found\n"
    assert verdicts([trial(program, tests)], LIMITS) == [True]
    assert verdicts([trial(program, tests.replace("candidate(1)", "candidate(0)"))], LIMITS) == [False]


def test_an_iterator_is_no_list_and_an_exception_keeps_its_name():
    tests = "def check(candidate):\n    assert {} == [2, 3]"
    program = "def f(x):\n    return (n for n in (2, 3))"
    assert verdicts([trial(program, tests.format(how)) for how in ("list(candidate(1))", "candidate(1)")], LIMITS) == [
        True,
        False,
    ]
    raises = "def check(candidate):\n    try:\n        candidate(1)\n    except {}:\n        return\n    assert False"
    program = "def f(x):\n    raise ValueError('no')"
    assert verdicts([trial(program, raises.format(name)) for name in ("ValueError", "KeyError")], LIMITS) == [True, False]


def test_tests_call_the_reference_by_name():
    """HumanEval's 33rd compares the candidate with the function of that name, which is not the program's."""
    assert verdicts([trial("def f(x):\n    return x", "def check(candidate):\n    assert candidate(1) == f(1)")], LIMITS) == [
        False
    ]
    helper = RIGHT + "def double(x):\n    return 2 * x\n"
    program = "def double(x):\n    return 4\ndef f(x):\n    return x"
    tests = "def check(candidate):\n    assert candidate(2) == double(2)"
    assert verdicts([Trial(program, "f", helper, tests)], LIMITS) == [False]


FILES = [
    "open('/etc/passwd').read()",
    "import os; os.listdir(os.path.expanduser('~'))",
    "import os; os.listdir('/')",
    "import os; os.stat('/etc/passwd')",
    "open('/proc/self/environ').read()",
    "open('/proc/self/mem', 'rb').seek(0)",
    "import io, os; io.FileIO(os.open('/dev/shm/found', os.O_CREAT | os.O_RDWR), 'w').write(b'x')",
    "import os; os.memfd_create('x')",
    "import os; os.read(1, 1)",
    "import os; os.read(2, 1)",
    "import os; os.write(1, b'right')",
    "import os; os.write(2, b'right')",
    "import os; os.dup(0)",
    "import os; os.chdir('/')",
    "import os; os.rename('/tmp', '/tmp2')",
]
NETWORK = [
    "import socket; socket.socket()",
    "import socket; socket.create_connection(('127.0.0.1', 22))",
    "import socket; socket.socketpair()",
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1')",
]
PROCESSES = [
    "import os; os.fork()",
    "import os; os.system('true') == 0 or 1 / 0",
    "import subprocess; subprocess.run(['true'])",
    "import threading; threading.Thread(target=int).start()",
    "import os, sys; os.execv(sys.executable, ['python', '-c', ''])",
    "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
    "import os; os.kill(os.getppid(), 0)",
    "import os; os.kill(-1, 0)",
    "import os; os.killpg(0, 0)",
    "import time; time.sleep(0.01)",
]
OWN_LIMITS = [
    "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
    "import signal; signal.setitimer(signal.ITIMER_PROF, 0)",
    "import signal; signal.signal(signal.SIGPROF, signal.SIG_IGN)",
    "import signal; signal.alarm(0) < 1000 or 1 / 0",  # it hides that it was refused
    "import os; os.setpriority(os.PRIO_PROCESS, 0, 1)",
]
MACHINE = [
    "import ctypes; ctypes.CDLL(None).getppid() > 0 or 1 / 0",
    "import ctypes; ctypes.CDLL(None).open(b'/etc/passwd', 0) >= 0 or 1 / 0",
    "import ctypes; ctypes.CDLL(None).fork() >= 0 or 1 / 0",
    "import ctypes; ctypes.CDLL(None).syscall(57) >= 0 or 1 / 0",
    "import ctypes; ctypes.CDLL(None).kill(ctypes.CDLL(None).getpid(), 0) == 0 or 1 / 0",
    "import ctypes\nc = ctypes.CDLL(None); c.mmap.restype = ctypes.c_ssize_t\nc.mmap(None, 4096, 7, 0x22, -1, 0) >= 0 or 1 / 0",
    "import ctypes\nc = ctypes.CDLL(None); c.mmap.restype = ctypes.c_ssize_t\nc.mmap(None, 4096, 3, 0x22, -1, 0) < 0 or 1 / 0\nraise OSError",
]


@pytest.mark.parametrize("act", [*FILES, *NETWORK, *PROCESSES, *OWN_LIMITS, *MACHINE])
def test_the_kernel_refuses(act):
    assert not goes_through(act)


def test_what_is_no_attack_goes_through():
    assert goes_through("import os, time, random; (os.getpid(), time.time(), random.random(), os.urandom(4))")
    assert goes_through("import datetime; datetime.datetime.strptime('2020', '%Y')")
    assert goes_through("try:\n    import numpy\nexcept ImportError:\n    pass")


def test_nothing_is_written_outside(tmp_path):
    assert not goes_through(f"open({str(tmp_path / 'x')!r}, 'w').write('x')")
    assert not (tmp_path / "x").exists()


def test_secrets_of_the_job_are_not_there(anew, monkeypatch):
    monkeypatch.setenv("API_KEY", "s3cret")
    assert not goes_through("import os; assert os.environ.get('API_KEY')")
    assert not goes_through("import os; assert [v for v in os.environ.values() if len(v) > 1 and '/' in v]")
    hunt = (
        "import gc\nneedle = ''.join({parts})\nseen, todo = set(), gc.get_objects()\nfound = False\n"
        "while todo and not found:\n    one = todo.pop()\n    if id(one) in seen: continue\n    seen.add(id(one))\n"
        "    found = isinstance(one, str) and needle in one != needle\n    todo += gc.get_referents(one)[:10000]\nassert found"
    )
    hunted = [
        hunt.replace("{parts}", repr(parts)) for parts in (("what is ", "expected"), ("it runs its text, ", "and answers"))
    ]
    tests = f"{TESTS}    # what is expected"
    for _ in range(2):  # tests of earlier trials neither
        found = verdicts([trial(f"{text}\n{RIGHT}", tests) for text in hunted], Limits(10, 1 << 30))
        assert found == [False, True]


CHEATS = {
    "ends before the tests": "import os\nos._exit(0)",
    "ends with success": "import sys\nsys.exit(0)",
    "ends when it is called": "import os\ndef f(x):\n    os._exit(0)",
    "exits when it is called": "import sys\ndef f(x):\n    sys.exit()",
    "equals everything": "class All:\n    __eq__ = lambda self, other: True\ndef f(x):\n    return All()",
    "is a number that equals everything": "class All(int):\n    __eq__ = lambda s, o: True\ndef f(x):\n    return All(x)",
    "a list that equals": "class All(list):\n    __eq__ = lambda s, o: True\ndef f(x):\n    return All()",
    "no assertions": "import builtins\nbuiltins.AssertionError = ValueError\nbuiltins.isinstance = lambda *a: True\ndef f(x):\n    return x",
    "patches its judge": (
        "from opd_steps.tasks.sandbox import tests, plain, program\n"
        "tests.verdict = lambda: True\nplain.unpack = program.unpack = lambda said: 2\ndef f(x):\n    return x"
    ),
    "looks for check": (
        "import gc\nfor one in gc.get_objects():\n    if callable(one) and getattr(one, '__name__', '') == 'check':\n"
        "        one.__code__ = (lambda candidate: None).__code__\ndef f(x):\n    return x"
    ),
    "prints a verdict": "print('right')\nimport sys\n(sys.__stdout__ or sys.stdout).write('right')\ndef f(x):\n    return x",
    "writes a verdict everywhere": (
        "import os\nfor link in range(64):\n    try:\n        os.write(link, b'right')\n    except OSError:\n        pass\n"
        "def f(x):\n    return x"
    ),
    "answers before it is asked": (
        "import json, os\ntext = json.dumps(['gave', 2]).encode()\n"
        "os.write(0, (len(text).to_bytes(8) + text) * 9)\ndef f(x):\n    return x"
    ),
    "raises in the tests' place": "def f(x):\n    raise StopIteration",
    "a class nobody knows": "class SystemExit(Exception):\n    pass\ndef f(x):\n    raise SystemExit",
    "returns what is no value": "def f(x):\n    return f",
    "a message that is none": "import os\nos.write(0, b'right' * 9)\ndef f(x):\n    return x",
    "a message without end": "import os\nos.write(0, (1 << 40).to_bytes(8))\ndef f(x):\n    return x",
    "deep": "def f(x):\n    y = []\n    for _ in range(100_000):\n        y = [y]\n    return y",
    "recursion": "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(x):\n    return f(x)",
    "input": "def f(x):\n    return int(input()) or x + 1",
    "a lock": "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()\n" + RIGHT,
}


@pytest.mark.parametrize("program", CHEATS.values(), ids=CHEATS)
def test_a_wrong_program_never_passes(program):
    assert passes(program, RIGHT) == [False, True]


def test_a_test_that_forgives_everything_does_not_pass_who_left():
    forgives = "def check(candidate):\n    try:\n        candidate(1)\n    except BaseException:\n        pass\n"
    left = "import os\ndef f(x):\n    os._exit(0)"
    assert verdicts([trial(left, forgives), trial(RIGHT, forgives)], LIMITS) == [False, True]
    assert verdicts([trial(RIGHT, "def check(candidate):\n    pass")], LIMITS) == [False]  # nothing was asked


GREED = {
    "no end": "while True:\n    pass",
    "no end when called": "def f(x):\n    while True:\n        pass",
    "fork bomb": "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    "memory": "x = bytearray(10 ** 10)",
    "memory bit by bit": "x = []\nwhile True:\n    x.append(bytearray(1 << 20))",
    "output": "while True:\n    print('x' * 10 ** 6)",
    "a huge result": "def f(x):\n    return 'x' * (64 << 20)",
    "a result without end": "import itertools\ndef f(x):\n    return itertools.count()",
    "messages without end": "import os\nwhile True:\n    os.write(0, b'x' * 65536)",
    "a power in C": "x = 10 ** 10 ** 8",
}


@pytest.mark.parametrize("program", GREED.values(), ids=GREED)
def test_greed_ends(program):
    began = time.monotonic()
    assert passes(program, RIGHT, limits=SHORT) == [False, True]
    assert time.monotonic() - began < 60  # those of the clock alone are 4 s


def test_who_waits_for_nothing_is_ended_by_the_clock():
    steals = "import os\nwhile True:\n    os.read(0, 1)"
    assert passes(steals, limits=SHORT) == [False]
    assert passes(RIGHT) == [True]


def test_the_tests_have_limits_too():
    endless = ["while True: pass", "import os; os.fork()", "open('/etc/passwd')", "x = bytearray(10 ** 10)"]
    tests = [f"{TESTS}\n{act}" for act in endless]
    assert verdicts([trial(RIGHT, text) for text in tests], SHORT) == [False] * 4


def test_many_at_once_leave_nothing_behind():
    mixed = [RIGHT, "import os\nos._exit(0)", "while True: pass", "def f(x): return 1"] * 4
    expected = [program is RIGHT for program in mixed]
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    assert passes(*mixed, limits=SHORT) == expected
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == (before, threads)
    assert passes(RIGHT) == [True]


def test_a_keeper_that_somebody_ended_starts_again():
    assert passes(RIGHT) == [True]
    keeper = sandbox._keeper(os.getpid())
    keeper.process.kill()
    keeper.process.wait()
    assert passes(RIGHT, RIGHT) == [True, True]


def test_a_fork_has_a_keeper_of_its_own():
    assert passes(RIGHT) == [True]
    mine = sandbox._keeper(os.getpid()).process.pid
    if not (child := os.fork()):
        right = passes(RIGHT) == [True]
        os._exit(0 if right and sandbox._keeper(os.getpid()).process.pid != mine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert passes(RIGHT) == [True]


def test_the_keeper_and_its_trials_end_with_the_job():
    code = (
        "import os, threading, time; from opd_steps.tasks.sandbox import judge\n"
        f"wait = judge.Trial('while True: pass', 'f', {RIGHT!r}, {TESTS!r})\n"
        f"judge.verdicts([judge.Trial({RIGHT!r}, 'f', {RIGHT!r}, {TESTS!r})], judge.Limits(1, 1 << 29))\n"
        "threading.Thread(target=judge.verdicts, args=([wait], judge.Limits(600, 1 << 29))).start()\n"
        "time.sleep(1); print(judge._keeper(os.getpid()).process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    keeper, deadline = int(run.stdout), time.monotonic() + 60
    while _family(keeper) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run.returncode == -9 and not _family(keeper)


def _family(keeper: int) -> list[int]:
    """The keeper and its children that run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z" and keeper in (int(folder.name), int(parent)):
            found.append(int(folder.name))
    return found


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        ("raise OSError('libseccomp.so.2: cannot open shared object file')", "libseccomp.so.2: cannot open shared object file"),
        ("walls.Walls.put_up = lambda *args: None", "the kernel does not keep a process from files and sockets"),
        ("import os; os._exit(1)", "the process that keeps programs in did not start"),
    ],
)
def test_without_walls_nothing_runs(anew, monkeypatch, tmp_path, breaks, says):
    repository = str(Path(sandbox.__file__).parents[3])
    (tmp_path / "broken_keeper.py").write_text(
        f"import sys; sys.path.append({repository!r})\nopen({str(tmp_path / 'started')!r}, 'a').write('1')\n"
        f"from opd_steps.tasks.sandbox import keeper, walls\n"
        f"def library():\n    {breaks}\n    return kept()\nkept, walls._library = walls._library, library\nmain = keeper.main\n"
    )
    monkeypatch.setattr(sandbox, "keeper", SimpleNamespace(__name__="broken_keeper"))
    monkeypatch.setattr(sandbox, "_ROOT", str(tmp_path))
    with pytest.raises(UserError, match=rf"^verifier code: code is run only where .*; {says}") as caught:
        passes(*[RIGHT] * 9)
    assert "\n" not in str(caught.value) and (tmp_path / "started").read_text() == "1"  # not once a program


def test_another_system_than_linux_is_refused(anew, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UserError, match="this is no Linux"):
        passes(RIGHT)


def test_the_job_may_use_sockets_and_files_afterwards(tmp_path):
    assert passes(RIGHT) == [True]
    (tmp_path / "x").write_text("x")
    socket.socket().close()
