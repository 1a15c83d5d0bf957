"""Teachers in the training workers: models whose weights are cut among the ranks, asked for anything that a model can say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path

import torch

from opd_steps.config import plugs
from opd_steps.config.asks import Asks
from opd_steps.models.numerics import Numerics
from opd_steps.nouns.dist import StepDist
from opd_steps.nouns.policy import Policy
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.verl.optimizer import AdamW


def told(folder: Path, family: dict, numerics: Numerics, sampling: Mapping, rate: float = 0.0) -> dict:
    """What a worker needs to load a model, as JSON can hold it. `rate`: how much of the student's weights it takes in with each update."""
    found = {"folder": str(folder), "family": family, "numerics": asdict(numerics), "sampling": dict(sampling)}
    return found | {"rate": rate}


def say(spec: dict, rows: Trajectory, name: str, asks: Asks) -> StepDist:
    """What the model says at every decision of the rows, in the context of the teacher `name`. All ranks must ask together."""
    policy = _loaded(json.dumps(spec, sort_keys=True))
    with torch.no_grad(), torch.autocast(policy.device.type, enabled=False):  # it knows its own numerics
        return policy.dist(rows, name, asks)


@cache
def _loaded(spec: str) -> Policy:
    """Once in a process, whoever asks."""
    found = json.loads(spec)
    family = plugs.load("models/families", found["family"])
    policy = family.policy(Path(found["folder"]), numerics=Numerics(**found["numerics"]), sampling=found["sampling"])
    if found["rate"]:
        AdamW.mine.followed_by(policy.model, found["rate"])
    return policy
