"""Policies of robots that play, are asked and written by several processes.

python -m tests.unit.vla_toys FOLDER     (in each rank): writes FOLDER/<how>.safetensors and FOLDER/published/<how>; reads FOLDER/<family>
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from opd_steps.loop.objective import Objective
from opd_steps.models.bases import Base, Tuning
from opd_steps.models.families.openvla import OpenVLA
from opd_steps.models.families.vla import VLA
from opd_steps.models.numerics import Numerics
from opd_steps.process import ranks
from opd_steps.tune.lora import Lora
from tests.unit import in_ranks, openvla_toys, test_vla

NUMERICS = {
    "vla": Numerics(recompute=True),
    "vla bfloat16": Numerics(compute="bfloat16", published="bfloat16"),
    "openvla": Numerics(),
    "openvla lora": Numerics(recompute=True),
}
FAMILIES = {"vla": VLA(), "openvla": OpenVLA(dims=2, bins=3, chunk=1)}
CONFIGS = {"vla": test_vla.TINY, "openvla": openvla_toys.TINY}


def make(folder: Path) -> None:
    """A node's folder of each family, and boards."""
    for name, family in FAMILIES.items():
        (folder / name).mkdir(parents=True)
        options = {"path": None, "revision": None, "config": CONFIGS[name]}
        family.make(SimpleNamespace(stage=folder / name, seed=0, options=options))
    (folder / "boards").mkdir()
    test_vla.WORLD.write(SimpleNamespace(stage=folder / "boards", seed=0))


def found(base: Path, how: str, published: Path) -> dict[str, Tensor]:
    """Episodes, and gradients against what it was; what it publishes."""
    name, numerics = how.split()[0], NUMERICS[how]
    family, tuning = FAMILIES[name], Tuning(Lora(r=2), 0, Base("p/model/start/seed0", "", "")) if "lora" in how else None
    loaded = {"numerics": numerics, "sampling": test_vla.SAMPLING}
    student = family.policy(base / name, train=tuning is None, tuning=tuning, **loaded)
    teacher = student.begun() if tuning else family.policy(base / name, **loaded)
    with torch.no_grad():
        for p in student.model.parameters():
            if p.requires_grad:
                p.mul_(0.9).add_(0.01)
    pool = test_vla.WORLD.pool(base / "boards", "train", student)
    rows = pool.play(student, range(5), range(5))
    Objective.from_method(test_vla.EXACT, 6).backward(student, rows, {}, {"teacher": teacher}, 1)
    trained = {key: p for key, p in student.model.named_parameters() if p.requires_grad and p.grad is not None}
    made = {key: ranks.full(p.grad).detach().clone() for key, p in trained.items()}
    family.save(student, published)
    return made | {"actions": rows.action_N, "logp": rows.logp_N, "lengths": rows.length_B, "reward": rows.reward_B}


if __name__ == "__main__":
    in_ranks.write(NUMERICS, lambda base, how: found(base, how, base / "published" / how))
