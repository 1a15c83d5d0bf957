"""Verifiers beside their table of verdicts (verifier_pairs.yaml): options, odd texts, and math-verify's process."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opd_steps.tasks import at_once
from opd_steps.tasks.golds import unreadable
from opd_steps.tasks.verifiers import _worker
from opd_steps.tasks.verifiers.exact import Exact
from opd_steps.tasks.verifiers.json_ranking import JsonRanking
from opd_steps.tasks.verifiers.math import Math
from opd_steps.tasks.verifiers.numeric import Numeric
from opd_steps.tasks.verifiers.with_confidence import WithConfidence

EQUAL = (r"\boxed{\frac{1}{\sqrt 3}}", r"\frac{\sqrt 3}{3}")  # no short cut: math-verify says so
ENDLESS = r"\boxed{\binom{10000000}{5000000}}"


@pytest.fixture(autouse=True)
def asked_anew():
    _worker.equal.cache_clear()


def last() -> subprocess.Popen:
    """The process that judged last."""
    return _worker._pool(os.getpid()).free.queue[-1].process


def test_exact():
    assert Exact().judge([" yes\n", "no", ""], [{"answer": "yes"}] * 3) == [1.0, 0.0, 0.0]
    either = Exact(after="=", or_after=["!", "->"])
    assert [either.score(text, "7") for text in ("2=3!7", "2!3=7", "2=7!3", "2=3->7", "2->7=3", "7")] == [1, 1, 0, 1, 0, 0]
    assert either.unreadable("7") == "" and "holds '!'" in either.unreadable("7!") and "holds '->'" in either.unreadable("a->7")
    after = Exact(after="=")
    completions = ["47+85=32;32+13=45", "45", "47+85=45;45+13=32", "47+85=32;32+13=", "1=045"]
    assert after.judge(completions, [{"answer": "45"}] * 5) == [1.0, 0.0, 0.0, 0.0, 0.0]


@given(st.text(), st.integers())
def test_numeric_takes_any_text(text, number):
    assert Numeric().score(text, str(number)) in (0.0, 1.0)
    assert Numeric().score(f"{text} so {number:,}", str(number)) == 1.0


@pytest.mark.parametrize(
    ("verifier", "answer", "problem"),
    [
        (Numeric(), "10:30", "is no number; take the verifier exact or math"),
        (Numeric(), "5", ""),
        (Exact(), " ", "is empty"),
        (Exact(), "x=5", ""),
        (Exact(after="="), "x=5", "holds '=', and the verifier exact reads only what follows the last one"),
        (Math(), r"\text{ }", "is no value"),
        (Math(), "NaN", "is no value"),
        (Math(), r"\frac{1}{2", "has unbalanced braces"),
        (Math(), r"\boxed{", "is no value"),
        (Math(), r"\{1, 2\}", ""),
        (JsonRanking(), '["b","a"]', ""),
        (JsonRanking(), "b, a", "is no JSON list of strings"),
        (WithConfidence(of=Numeric()), "10:30", "is no number; take the verifier exact or math"),
        (WithConfidence(of=Numeric()), "", "is empty"),
    ],
)
def test_what_cannot_be_judged_against_is_said(verifier, answer, problem):
    assert unreadable(verifier, answer) == problem


@pytest.mark.parametrize("style", ["mark", "words"])
def test_a_thought_that_never_ended_states_no_confidence(style):
    verifier = WithConfidence(of=Numeric(), style=style)
    right = verifier.restate("<think>5</think> 7", 1.0)
    assert verifier.score(right, "7") == 1.0 and verifier.confidence(right) == 1.0
    cut = verifier.restate("<think>so 7", 1.0)
    assert verifier.score(cut, "7") == 0.0 and verifier.confidence(cut) is None


def test_math_off_the_main_thread():
    found = []
    for _ in range(2):  # the process lives longer than the thread that started it
        thread = threading.Thread(target=lambda: found.append(Math().score(*EQUAL)))
        thread.start()
        thread.join()
    assert found == [1.0, 1.0] and Math().score(*EQUAL) == 1.0


def test_math_ends_what_takes_too_long_and_goes_on():
    before = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    used = os.times().children_user
    assert Math(timeout=1).score(ENDLESS, "7") == 0.0
    assert os.times().children_user - used < 4  # the process was ended and waited for
    assert Math().score(*EQUAL) == 1.0
    assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)) == before


def test_math_judges_several_at_once_in_order(monkeypatch):
    monkeypatch.setattr(at_once, "width", lambda: 3)
    pool = _worker.Pool(f"from {_worker.__name__} import main; main()", 2)
    monkeypatch.setattr(_worker, "_pool", lambda pid: pool)
    texts = [rf"\boxed{{\sqrt{{{4 * n}}}}}" for n in range(2, 6)]
    golds = [{"answer": rf"2\sqrt{{{n}}}"} for n in (2, 4, 4, 5)]
    assert Math().judge(texts, golds) == [1.0, 0.0, 1.0, 1.0]


def test_math_survives_the_end_of_its_process():
    assert Math().score(*EQUAL) == 1.0
    last().kill()
    _worker.equal.cache_clear()
    assert Math().score(*EQUAL) == 1.0


def test_math_in_a_forked_process_has_a_process_of_its_own():
    assert Math().score(*EQUAL) == 1.0
    mine = last().pid
    if not (child := os.fork()):
        _worker.equal.cache_clear()
        right = Math().score(*EQUAL)
        os._exit(0 if right == 1.0 and last().pid != mine else 1)
    assert os.waitpid(child, 0)[1] == 0
    _worker.equal.cache_clear()
    assert Math().score(*EQUAL) == 1.0


def test_maths_process_ends_with_its_caller():
    code = (
        "import os; from opd_steps.tasks.verifiers import _worker\n"
        f"_worker.equal({EQUAL[0]!r}, {EQUAL[1]!r}, 5)\n"
        "print(_worker._pool(os.getpid()).free.get().process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    run = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid, deadline = int(run.stdout), time.monotonic() + 60
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert run.returncode == -9 and not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_data_step_imports_no_torch():
    code = (
        "import sys; from opd_steps.config import plug_schema; import opd_steps.steps.data\n"
        "for name in plug_schema.names('tasks/sources'): __import__('opd_steps.tasks.sources.' + name)\n"
        "for name in plug_schema.names('tasks/verifiers'): __import__('opd_steps.tasks.verifiers.' + name)\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'sympy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
