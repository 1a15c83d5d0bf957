"""A verifier that hangs, by computing or by waiting, scores 0 and holds up nobody; all else is judged as it is without limits."""

from __future__ import annotations

import os
import pickle
import time
from dataclasses import dataclass

import pytest

from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.kinds import KINDS
from opd_steps.tasks.verifiers import Verifier
from opd_steps.tasks.verifiers.either_way import EitherWay
from opd_steps.tasks.verifiers.exact import Exact
from opd_steps.tasks.verifiers.in_time import InTime, _pool


@dataclass(frozen=True)
class Moody(Verifier):
    """Right answers are right; it spins, sleeps, fails or dies when it is told to."""

    offset: int = 0

    def score(self, completion: str, answer: str) -> float:
        if completion == "spin":
            while True:
                pass
        if completion == "sleep":
            time.sleep(1000)
        if completion == "fail":
            raise ZeroDivisionError("by zero")
        if completion == "print":
            print("1.0")
        return float(int(completion or 0) + self.offset == int(answer)) if completion.isdecimal() else 0.0


def rows(count: int) -> list[dict]:
    return [{"id": str(i), "answer": "7", "meta": {"domain": "x"}} for i in range(count)]


def test_who_hangs_scores_0_and_is_counted(capsys):
    verifier = InTime(Moody(offset=1), seconds=0.5, patience=4)
    texts = ["6", "spin", "7", "sleep", "print", "6"]
    begun = time.monotonic()
    assert verifier.judge(texts, rows(6)) == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert time.monotonic() - begun < 100
    assert "verifier: 2 of 6 completions took more than 0.5 s: 0" in capsys.readouterr().out
    assert verifier.judge(["6"], rows(1)) == [1.0]  # another process took the place
    found = verifier.measure(texts, ["7"] * 6, [1.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    assert found == {"timed_out": pytest.approx(2 / 6)}


def test_an_error_is_told_in_one_line_and_a_process_that_somebody_ended_is_started_again():
    verifier = InTime(Moody(), seconds=5)
    with pytest.raises(UserError, match=r"verifier Moody: it fails on a completion: ZeroDivisionError: by zero"):
        verifier.judge(["7", "fail"], rows(2))
    assert verifier.judge(["7"], rows(1)) == [1.0]
    pools = _pool(os.getpid(), pickle.dumps(Moody()), 100.0)
    for worker in list(pools.free.queue):
        if worker.process:
            worker.process.kill()
            worker.process.wait()
    assert verifier.judge(["7", "6"], rows(2)) == [1.0, 0.0]


def test_what_it_says_otherwise_is_that_of_the_verifier():
    exact, verifier = Exact(after="="), InTime(Exact(after="="), seconds=5)
    assert verifier.unreadable("a=b") == exact.unreadable("a=b") != ""
    texts = ["3+4=7", "7", "=8"]
    assert verifier.judge(texts, rows(3)) == exact.judge(texts, rows(3))
    assert verifier.score("=7", "7") == 1.0
    assert InTime(EitherWay(exact), seconds=5).judge(["7=", "8="], rows(2)) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("changed", "says"),
    [({"seconds": 0}, "verifier.seconds: expected above 0"), ({"of": "exakt"}, "verifier.of: no verifiers named 'exakt'")],
)
def test_mistakes(changed, says):
    with pytest.raises(UserError, match=says):
        merge(KINDS["data"], {"kind": "data", "verifier": {"name": "in_time", "of": "exact"} | changed}, "nodes.data")
