"""Verifiers: which completions count as right."""

import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opd_steps.tasks.verifiers.exact import Exact
from opd_steps.tasks.verifiers.math import Math
from opd_steps.tasks.verifiers.numeric import Numeric
from opd_steps.tasks.verify import rewards


def test_exact():
    assert rewards(Exact(), [" yes\n", "no", ""], ["yes", "yes", "yes"]) == [1.0, 0.0, 0.0]
    after = Exact(after="=")
    completions = ["47+85=32;32+13=45", "45", "47+85=45;45+13=32", "47+85=32;32+13=", "1=045"]
    assert rewards(after, completions, ["45"] * 5) == [1.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("completion", "answer", "right"),
    [
        ("so it is 1,234 apples.", "1234", 1),
        ("1,2345", "2345", 1),
        ("it costs $5.", "5", 1),
        ("-$3.50", "-3.5", 1),
        ("\u22123", "-3", 1),
        ("12-5", "5", 1),
        ("x=-5", "-5", 1),
        ("f(2)-5", "5", 1),
        ("007", "7", 1),
        (".5", "0.50", 1),
        ("0.1", "0.10000000000000000001", 0),
        ("3\n#### 1,080", "1080", 1),
        ("#### 7 (of 12)", "7", 1),
        ("7 #### ", "7", 0),
        ("seven", "7", 0),
        ("", "7", 0),
        ("no number", "none", 0),
        ("1 2 3", "3", 1),
        ("9" * 5000, "9" * 5000, 1),
    ],
)
def test_numeric(completion, answer, right):
    assert Numeric().score(completion, answer) == right


@given(st.text(), st.integers())
def test_numeric_takes_any_text(text, number):
    assert Numeric().score(text, str(number)) in (0.0, 1.0)
    assert Numeric().score(f"{text} {number:,}", str(number)) == 1.0


@pytest.mark.parametrize(
    ("completion", "answer", "right"),
    [
        (r"\boxed{3}, no: \boxed{\frac{1}{2}}", r"\frac12", 1),
        (r"the answer is $0.5$", "1/2", 1),
        (r"\boxed{x^2+1}", "1+x^2", 1),
        (r"\boxed{2^{10}}", r"\boxed{1024}", 1),
        (r"\boxed{1}, no: \boxed{2}", "1", 0),
        (r"\boxed{", "5", 0),
        ("nothing", "5", 0),
        ("", "5", 0),
        ("9**9**9**9", "5", 0),  # must not be computed
        ("9^{9^{9}}", "5", 0),
        ("100000!", "5", 0),
    ],
)
def test_math(completion, answer, right):
    assert Math().score(completion, answer) == right


def test_math_off_the_main_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(Math().score(r"\boxed{\frac{2}{4}}", "1/2")))
    thread.start()
    thread.join()
    assert found == [1.0]


def test_the_data_step_imports_no_torch():
    code = (
        "import sys; from opd_steps.config import plugs; import opd_steps.steps.data\n"
        "for name in plugs.names('tasks/sources'): __import__('opd_steps.tasks.sources.' + name)\n"
        "for name in plugs.names('tasks/verifiers'): __import__('opd_steps.tasks.verifiers.' + name)\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'sympy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
