"""After-step hooks: plugs whose `make(setting)` returns an object with __call__(step, policy, metrics), state_dict() and
load_state_dict(); one with before_step(policy) sees the gradient before the optimizer does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Setting:
    """What a hook may look at: the training policy, the train prompts, the node's seed, and folders of finished models.

    start       where the student starts from
    update_of   a finished model that started there as well, where the node names one
    """

    policy: Any
    pool: Any
    seed: int
    start: Path
    update_of: Path | None = None
