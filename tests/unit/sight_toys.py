"""A model that sees, read and asked by several processes.

python -m tests.unit.sight_toys FOLDER     (in each rank): writes FOLDER/<how>.safetensors; reads FOLDER/node
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from opd_steps.loop.objective import Objective
from opd_steps.models.bases import Base, Tuning
from opd_steps.models.numerics import Numerics
from opd_steps.process import ranks
from opd_steps.tune.lora import Lora
from tests.unit import in_ranks
from tests.unit.test_vl import FAMILY, TINY, mixed
from tests.unit.tiny import method

FULL = method(support="full", signal="rkl", estimator="exact")
NUMERICS = {"plain": Numerics(), "recomputed": Numerics(recompute=True), "lora": Numerics()}


def make(folder: Path) -> None:
    folder.mkdir(parents=True)
    FAMILY.make(SimpleNamespace(stage=folder, seed=0, options={"path": None, "revision": None, "config": TINY}))


def found(node: Path, how: str, published: Path) -> dict[str, Tensor]:
    """Samples, and gradients of a loss against a frozen model. In passes of one row: each looks at a picture or at a video, and the ranks
    at different ones at the same time."""
    tuning = Tuning(Lora(r=2), 0, Base("p/model/eyes/seed0", "", "")) if how == "lora" else None
    sampling = {"temperature": 1.0, "max_new_tokens": 4}
    student = FAMILY.policy(node, numerics=NUMERICS[how], sampling=sampling, train=tuning is None, tuning=tuning)
    teacher = FAMILY.policy(node)
    with torch.no_grad():
        for p in student.model.parameters():
            p.mul_(0.9).add_(0.01 if p.requires_grad else 0.0)
    rows = student.rollout(mixed(5), range(5), range(5))
    Objective.from_method(FULL, 4).backward(student, rows, {}, {"teacher": teacher}, 1)
    trained = {name: p for name, p in student.model.named_parameters() if p.requires_grad}
    made = {name: ranks.full(p.grad).detach().clone() for name, p in trained.items()}
    FAMILY.save(student, published)
    return made | {"actions": rows.action_N, "logp": rows.logp_N}


if __name__ == "__main__":
    in_ranks.write(NUMERICS, lambda base, how: found(base / "node", how, base / how))
