"""Milestones of a training: its model as it was after some steps, which other nodes read as parts of the node."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from opd_steps.nouns.hook import Hook
from opd_steps.nouns.policy import Policy
from opd_steps.process import ranks

_FOLDER = "milestones"  # of the work directory: there they outlive a kill
BEST = "best"  # the milestone that a hook keeps instead of a step


class Milestones(Hook):
    """The last hook of all: it keeps what the next step trains on from. `keep`: step by name.

    Checkpoints are written later in a step. So a resumed run either has the milestone whole, or makes its step again.
    """

    def __init__(self, work: Path, keep: Mapping[str, int]):
        self.work, self.keep = work, keep

    def __call__(self, step: int, policy: Policy, metrics: dict[str, float]) -> None:
        for name in (name for name, at in self.keep.items() if at == step):
            write(self.work, name, policy)


def write(work: Path, name: str, policy: Policy) -> None:
    """The model as it is now, in place of an earlier one of that name."""
    folder = work / _FOLDER / name
    if ranks.first():
        shutil.rmtree(folder, ignore_errors=True)
    ranks.gather(None)  # nobody writes before the place is clean
    policy.family.save(policy, folder)


def kept(work: Path, keep: Iterable[str]) -> list[str]:
    """Names of all milestones that there are, those of `keep` first."""
    return [*keep, *([BEST] if (work / _FOLDER / BEST).exists() else [])]


def publish(work: Path, stage: Path, names: Iterable[str]) -> None:
    """Copy milestones to where the node's parts are published; the originals stay until that is done."""
    for name in names:
        shutil.copytree(work / _FOLDER / name, stage / "parts" / name)
