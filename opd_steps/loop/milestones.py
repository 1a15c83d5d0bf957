"""Milestones of a training: its model as it was after some steps, which other nodes read as parts of the node."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from opd_steps.nouns.hook import Hook
from opd_steps.nouns.policy import Policy
from opd_steps.process import ranks

_FOLDER = "milestones"  # of the work directory: there they outlive a kill


class Milestones(Hook):
    """The last hook of all: it keeps what the next step trains on from. `keep`: step by name.

    Checkpoints are written later in a step. So a resumed run either has the milestone whole, or makes its step again.
    """

    def __init__(self, work: Path, keep: Mapping[str, int]):
        self.folder, self.keep = work / _FOLDER, keep

    def __call__(self, step: int, policy: Policy, metrics: dict[str, float]) -> None:
        for name in (name for name, at in self.keep.items() if at == step):
            if ranks.first():
                shutil.rmtree(self.folder / name, ignore_errors=True)
            ranks.gather(None)  # nobody writes before the place is clean
            policy.family.save(policy, self.folder / name)


def publish(work: Path, stage: Path, keep: Mapping[str, int]) -> None:
    """Copy all milestones to where the node's parts are published; the originals stay until that is done."""
    for name in keep:
        shutil.copytree(work / _FOLDER / name, stage / "parts" / name)
