"""Nothing that is not finite is trained on, saved or published: a step with such a figure or weight ends the training, in one line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from opd_steps.errors import NotFinite, UserError
from opd_steps.loop import checkpoint
from opd_steps.nouns.hook import Hook
from opd_steps.process import finite
from opd_steps.store.artifacts import Job
from opd_steps.store.metrics import not_finite


class Guard(Hook):
    """The last after-step hook: it looks at what the others left of all learners. Its state: each learner's updates left out in a row.

    on_nonfinite: stop   the first figure of an update that is not finite raises UserError, as does any other figure or weight
    on_nonfinite: skip   such an update is not made: neither weights nor moments move. train/skipped counts those of a step;
                         the last of `max_skips` in a row raises UserError. Weights that a finite gradient took to infinity
                         cannot be taken back, so they always end the step.
    """

    def __init__(self, job: Job, models: Sequence[nn.Module]):
        self.job, self.models, self.step = job, models, 0
        self.skips, self.most = job.options["on_nonfinite"] == "skip", job.options["max_skips"]
        self.in_a_row, self.skipped = defaultdict(int), 0

    @contextmanager
    def watch(self, step: int) -> Iterator[None]:
        """Around a step: what is not finite in its rollouts, rewards or checkpoint ends it in the same way."""
        self.step, self.skipped = step, 0
        try:
            yield
        except NotFinite as error:
            raise self.end(f"{error.message} ({error.where})") from None

    def allows(self, learner: str, figures: dict[str, float]) -> bool:
        """Whether an update of a learner with these figures may be made. All ranks hold the same ones."""
        bad = not_finite(figures)
        if not bad:
            self.in_a_row[learner] = 0
            return True
        self.in_a_row[learner] += 1
        self.skipped += 1
        if not self.skips:
            raise self.end(bad)
        if self.in_a_row[learner] >= self.most:
            raise self.end(f"{bad}, the {self.in_a_row[learner]}. update in a row that is left out (max_skips: {self.most})")
        print(f"step {self.step}: {bad}; this update is left out", flush=True)
        return False

    def figures(self) -> dict[str, float]:
        """What the step's other figures do not show."""
        return {"skipped": float(self.skipped)} if self.skips else {}

    def __call__(self, step: int, policy, metrics: dict[str, float]) -> None:
        if bad := not_finite(metrics):
            raise self.end(bad)
        for model in self.models:
            if name := finite.not_finite(model.named_parameters()):
                raise self.end(f"after the update the parameter {name} is not finite")

    def end(self, what: str) -> UserError:
        """What to raise when the step must not go on."""
        kept = checkpoint.newest(self.job.work)
        stays = f"the checkpoint after step {int(kept.name.rpartition('-')[2])} stays" if kept else "there is no checkpoint yet"
        return UserError(self.job.name, f"step {self.step}: {what}; nothing is published, {stays}")

    def state_dict(self) -> dict:
        return {"in_a_row": dict(self.in_a_row)}

    def load_state_dict(self, state: dict) -> None:
        self.in_a_row.update(state["in_a_row"])
