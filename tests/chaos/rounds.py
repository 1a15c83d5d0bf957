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

KINDS = ("checkpoint", "publish", "tracking", "report", "records")


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

    def moment(self, dice: random.Random, passed: Counter) -> Moment:
        """Anywhere in what is left of a run of which so many changes have been made; a third by the clock, some of it within tracking,
        whose changes SQLite makes, the others at changes of files."""
        left = {kind: self.changes[kind] - passed[kind] for kind in KINDS if self.changes[kind] > passed[kind]}
        what = dice.choice(["time", "time", "tracking", *left])
        if what == "time":
            return Moment(seconds=dice.uniform(1.0, self.seconds * max(sum(left.values()) / sum(self.changes.values()), 0.2)))
        if what not in left or (what == "tracking" and dice.random() < 0.5):
            return Moment(seconds=dice.uniform(0, self.tracking), log="track.log")
        return Moment(what, dice.randint(1, left[what]))


def kill(trial: Trial, undisturbed: Undisturbed, rounds: int, seed: int, say: Callable[[str], None] = print) -> int:
    """Kill `rounds` times; returns how many runs came to their end in between, each compared with the undisturbed one."""
    dice, passed, done, kills = random.Random(seed), Counter(), 0, 0
    while kills < rounds:
        trial.unlock()
        killed = trial.killed_at(undisturbed.moment(dice, passed))
        if killed:
            kills += 1
            passed.update(trial.changes())
            say(f"{kills:4} killed: {killed}")
            continue
        check(trial, undisturbed)
        done += 1
        say(f"     done, the {done}th time: as undisturbed")
        trial.begin_anew()
        passed.clear()
    trial.go_on()
    check(trial, undisturbed)
    return done + 1


def check(trial: Trial, undisturbed: Undisturbed) -> None:
    found = differences(trial.state(), undisturbed.state)
    assert found == [], f"{found} in {trial.folder}"
