"""Kills, one behind the other: a run is cut off, goes on, is cut off again, until it is done; then it is compared, and begins anew."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.chaos.trial import Moment, Trial, differences

EARLY = ("checkpoint", "checkpoint", "publish", "publish", "records", "time")
LATE = ("report", "tracking", "track.log", "track.log")
"""Kills of a run until it may come to its end: changes of files, by what they belong to; moments of the whole run, or of a job by its
log, which also meet changes that Python does not see, such as those of SQLite."""
NEVER = 300.0  # seconds, more than any run takes


@dataclass
class Undisturbed:
    """What a run leaves that nobody disturbs, how long it takes, and how many changes of files it makes."""

    trial: Trial

    @classmethod
    def run(cls, folder: Path) -> Undisturbed:
        trial = Trial(folder)
        found, begun = cls(trial), time.monotonic()
        assert trial.run("all") == 0, trial.said[-4000:] + trial.logs()
        found.seconds = time.monotonic() - begun
        found.changes = trial.changes()
        log = trial.folder / "logs/track.log"  # written to when it is made, and no more
        found.tracking = (trial.results / "report/mlflow.json").stat().st_mtime - log.stat().st_mtime
        return found

    @cached_property
    def state(self) -> dict[str, object]:
        return self.trial.state()

    def moment(self, dice: random.Random, what: str, passed: Counter, turns: int) -> Moment:
        """One of a run of which so many changes have been made, and which is to be killed `turns` times more before its last jobs."""
        if what == "":
            return Moment(seconds=NEVER)
        if what == "time":
            return Moment(seconds=dice.uniform(1.0, self.seconds / 2))
        if what == "track.log":
            return Moment(seconds=dice.uniform(0, 0.7 * self.tracking), log=what)
        left = max(1, self.changes[what] - passed[what])
        return Moment(what, dice.randint(1, max(1, 2 * left // (turns + 1)) if turns else left))


def order(dice: random.Random) -> list[str]:
    """Of the kills of one run."""
    return [*dice.sample(EARLY, len(EARLY)), *LATE, ""]


def kill(trial: Trial, undisturbed: Undisturbed, rounds: int, seed: int, say: Callable[[str], None] = print) -> int:
    """Kill `rounds` times; returns how many runs came to their end, each compared with the undisturbed one."""
    dice, passed, done, kills = random.Random(seed), Counter(), 0, 0
    todo = order(dice)
    while kills < rounds:
        what = todo.pop(0)
        moment = undisturbed.moment(dice, what, passed, max(0, len(todo) - len(LATE)))
        killed = trial.killed_at(moment)
        if killed:
            kills += 1
            passed.update(trial.changes())
            say(f"{kills:4} {what}: {killed}")
            continue
        check(trial, undisturbed)
        done += 1
        say(f"     ended, before {moment}: as undisturbed")
        trial.begin_anew()
        passed.clear()
        todo = order(dice)
    trial.go_on()
    check(trial, undisturbed)
    return done + 1


def check(trial: Trial, undisturbed: Undisturbed) -> None:
    assert trial.state()["left over"] == []
    found = differences(trial.state(), undisturbed.state)
    assert found == [], f"{found} in {trial.folder}"
