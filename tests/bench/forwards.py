"""One forward of each model serves survey, masks and terms: what that saves, beside running them again for the second pass.

    python -m tests.bench.forwards            CPU seconds of a backward pass over 64 rows of 48 tokens, one thread, in turn

A student and teachers of opd_modes' shapes; a term for each teacher, all of them with a weight that looks at the whole batch (tip).
"""

from __future__ import annotations

import torch

from opd_steps.config.merge import merge
from opd_steps.graph.method import Method
from opd_steps.loop import objective
from opd_steps.loop.forward import Forward
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.seeds import rng
from opd_steps.teachers.view import ModelTeacher
from tests.bench.opd_modes import Stopwatch
from tests.unit.tiny import FakeTokenizer, qwen

ROWS, TOKENS, VOCAB, RUNS = 64, 48, 512, 5


class Again(Forward):
    """As it was: each pass runs every model."""

    def first(self):
        yield from super().first()
        self.evidence, self.whole = [], None


def backward(teachers: int, micro_batch: int, forward: type[Forward], device: str = "cpu") -> float:
    """CPU seconds; on a GPU wall seconds."""
    from opd_steps.models.lm_policy import LMPolicy

    objective.Forward = forward
    student = LMPolicy(qwen(VOCAB, 0, layers=2).to(device), FakeTokenizer(VOCAB))
    names = [f"t{i}" for i in range(teachers)]
    others = {
        name: ModelTeacher(LMPolicy(qwen(VOCAB, i + 1, layers=4).to(device), FakeTokenizer(VOCAB)))
        for i, name in enumerate(names)
    }
    row = {"signal": "rkl", "support": "full", "estimator": "exact", "weight": ["tip"]}
    method = merge(Method, {**row, "against": names[0], "add": [{**row, "against": name} for name in names[1:]]}, "bench")
    draw = rng("bench")
    actions = [torch.tensor(draw.integers(1, VOCAB, TOKENS)) for _ in range(ROWS)]
    rows = Trajectory([[1, 2, 3, 4]] * ROWS, actions, torch.arange(ROWS))
    made = objective.Objective.from_method(method, TOKENS)
    watch = Stopwatch(device)
    watch.start()
    made.backward(student, rows, {}, others, micro_batch)
    watch.lap("backward")
    return watch.parts["backward"][0]


def main() -> None:
    torch.set_num_threads(1)
    backward(1, ROWS, Forward)
    for teachers in (1, 4):
        for micro_batch in (ROWS, ROWS // 4):
            times = {name: [] for name in ("once", "again")}
            for _ in range(RUNS):
                for name, forward in (("once", Forward), ("again", Again)):
                    times[name].append(backward(teachers, micro_batch, forward))
            once, again = (sorted(found)[RUNS // 2] for found in times.values())
            print(
                f"{teachers} teachers, {ROWS // micro_batch} micro-batches: {once:.2f} s, run again {again:.2f} s, {once / again:.2f}"
            )


if __name__ == "__main__":
    main()
