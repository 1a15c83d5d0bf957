"""Flows sampled, asked and written by several processes.

python -m tests.unit.flow_toys FOLDER     (in each rank): writes FOLDER/<how>.safetensors and FOLDER/<how>; reads FOLDER/sd3, FOLDER/z_image
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from opd_steps.loop.objective import Objective
from opd_steps.models.bases import Base, Tuning
from opd_steps.models.families.sd3 import SD3
from opd_steps.models.families.z_image import ZImage
from opd_steps.models.numerics import Numerics
from opd_steps.process import ranks
from opd_steps.teachers.sources.ema import EMA
from opd_steps.tune.lora import Lora
from tests.unit import in_ranks, z_image_toys
from tests.unit.test_flow import EXACT, TINY

NUMERICS = {
    "sd3": Numerics(),
    "sd3 lora": Numerics(recompute=True),
    "sd3 bfloat16": Numerics(compute="bfloat16", published="bfloat16"),
    "z_image lora": Numerics(recompute=True),
}
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 3}
PROMPTS = ["a red cat", "a cat", "a cat", "red", "a red red cat"]


def make(folder: Path) -> None:
    """A node's folder of each family."""
    for name in ("sd3", "z_image"):
        (folder / name).mkdir(parents=True)
    SD3().make(SimpleNamespace(stage=folder / "sd3", seed=0, options={"path": None, "revision": None, "config": TINY}))
    hub = str(z_image_toys.write_pipeline(folder / "hub"))
    ZImage(side=8).make(SimpleNamespace(stage=folder / "z_image", seed=0, options={"path": hub, "revision": None}))


def found(base: Path, how: str, published: Path) -> dict[str, Tensor]:
    """Samples, gradients against what it was, an average of its weights a step on; what it publishes."""
    family = SD3() if how.startswith("sd3") else ZImage(side=8)
    folder, numerics = base / how.split()[0], NUMERICS[how]
    tuning = Tuning(Lora(r=2), 0, Base("p/model/start/seed0", "", "")) if "lora" in how else None
    student = family.policy(folder, numerics=numerics, sampling=SAMPLING, train=tuning is None, tuning=tuning)
    teacher, average = (family.policy(folder, numerics=Numerics(compute=numerics.compute)) for _ in range(2))
    with torch.no_grad():
        for p in student.model.parameters():
            if p.requires_grad:
                p.mul_(0.9).add_(0.01)
    rows = student.rollout(PROMPTS, range(5), range(5))
    Objective.from_method(EXACT, 3).backward(student, rows, {}, {"teacher": teacher}, 1)
    trained = {name: p for name, p in student.model.named_parameters() if p.requires_grad}
    made = {name: ranks.full(p.grad).detach().clone() for name, p in trained.items()}
    EMA(rate=0.5).hook(SimpleNamespace(load=lambda: average, learner=student))(1, student, {})
    made |= {f"average {name}": ranks.full(p.detach()).clone() for name, p in average.model.named_parameters()}
    family.save(student, published)
    return made | {"actions": rows.action_N, "logp": rows.logp_N}


if __name__ == "__main__":
    in_ranks.write(NUMERICS, lambda base, how: found(base, how, base / "published" / how))
