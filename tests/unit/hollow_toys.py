"""A model of some hundred MB, read by several processes.

python -m tests.unit.hollow_toys FOLDER     (in each rank): writes FOLDER/rank<k>.json; reads FOLDER/node and FOLDER/large
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import torch

from opd_steps.loop.objective import Objective
from opd_steps.models.families.causal_lm import CausalLM
from opd_steps.models.hollow import fill, hollow_model
from opd_steps.models.numerics import Numerics
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks
from opd_steps.process.launch import failing_together
from tests.unit.tiny import method

FULL = method(support="full", signal="rkl", estimator="exact")
NUMERICS = {
    "fp32": Numerics(),
    "recomputed": Numerics(recompute=True),
    "packed, recomputed": Numerics(recompute=True, packed=True),
    "bf16": Numerics(compute="bfloat16"),
    "bf16, recomputed": Numerics(compute="bfloat16", recompute=True),
}


def rows() -> Trajectory:
    generator = torch.Generator().manual_seed(1)
    draw = lambda n: torch.randint(1, 20, (n,), generator=generator)
    return Trajectory([draw(3 + i % 3).tolist() for i in range(5)], [draw(4 + i) for i in range(5)], torch.arange(5))


def gradient(folder: Path, name: str) -> dict[str, list[float]]:
    """Of a policy read from a node, and what it samples."""
    family = CausalLM()
    sampling = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 6}
    student = family.policy(folder, numerics=NUMERICS[name], train=True, sampling=sampling)
    teacher = family.policy(folder, numerics=Numerics.frozen({"dtype": NUMERICS[name].compute}), sampling=sampling)
    with torch.no_grad():
        for p in student.model.parameters():
            p.mul_(0.9)
    Objective.from_method(FULL, 6).backward(student, rows(), {}, {"teacher": teacher}, 2)
    made = student.rollout([[1, 2, 3], [4, 5]] * 2, range(4), range(4))
    found = {n: ranks.full(p.grad).flatten().tolist() for n, p in student.model.named_parameters()}
    return found | {"dtype": sorted({str(p.grad.dtype) for p in student.model.parameters()}), "logp": made.logp_N.tolist()}


class Peak(threading.Thread):
    """The most memory of this process's own (no pages of files), looked at every few milliseconds, above what it had at first: bytes."""

    def __enter__(self) -> Peak:
        self.done, self.first = threading.Event(), self._now()
        self.most = self.first
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.done.set()
        self.join()

    def run(self) -> None:
        while not self.done.wait(0.005):
            self.most = max(self.most, self._now())

    @staticmethod
    def _now() -> int:
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        return int(line.split()[1]) * 1024


def main(folder: Path) -> None:
    found = {name: gradient(folder / "node", name) for name in NUMERICS}
    with Peak(daemon=True) as peak:
        model = ranks.shard(hollow_model(str(folder / "large"), dtype="float32"))
        fill(model, str(folder / "large"))
    held = sum(p.to_local().numel() * p.element_size() for p in model.parameters())
    told = {"grown": peak.most - peak.first, "held": held, "gradients": found}
    (folder / f"rank{ranks.rank()}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    with failing_together():
        ranks.join()
        main(Path(sys.argv[1]))
        ranks.leave()
