"""Evidence: what is known at N decision points beside the student's distribution. All of it is detached."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from torch import Tensor

from opd_steps.nouns.dist import StepDist


@dataclass(frozen=True)
class Evidence:
    """Columns over N decision points; what a method does not need may be None.

    action_N        what was chosen: int64 token ids, or [N, D] floats
    teacher         distributions of the teacher that the term is against (Categorical, Recorded, DiagGaussian ...)
    others          those of all teachers that the method asks, by name
    sampler_logp_N  log-prob of the action under the sampler as it ran
    outcome_N       the row's outcome advantage, on each of its decisions
    columns         further columns of the batch, a row's value on each of its decisions
    shift_N         what plugs that look at the whole batch add to the advantage
    step_N, owner_N position within the row, and the row
    """

    action_N: Tensor
    teacher: StepDist | None = None
    sampler_logp_N: Tensor | None = None
    outcome_N: Tensor | None = None
    shift_N: Tensor | None = None
    step_N: Tensor | None = None
    owner_N: Tensor | None = None
    others: Mapping[str, StepDist] = field(default_factory=dict)
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def reference(self) -> StepDist | None:
        """The node's reference policy, where the method looks at it."""
        return self.others.get("reference")

    def log_ratio(self, q: StepDist) -> Tensor:
        """log p(a) - log q(a) of the actions, teacher minus student, [N]."""
        return self.teacher.logp(self.action_N) - q.logp(self.action_N)

    def chunk(self, start: int, stop: int) -> Evidence:
        """The decision points start .. stop."""

        def cut(value: Tensor | StepDist | Mapping | None):
            if value is None:
                return None
            if isinstance(value, Mapping):
                return {name: cut(part) for name, part in value.items()}
            return value[start:stop] if isinstance(value, Tensor) else value.chunk(start, stop)

        return Evidence(**{f.name: cut(getattr(self, f.name)) for f in fields(self)})
