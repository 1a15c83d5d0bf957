from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from opd_steps.loop.batches import rollout_metrics, sampled_rows
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.draw import Draw
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.prefixes import PrefixSource


@dataclass(frozen=True)
class Routed(PrefixSource):
    """Fresh samples of several teachers, each on the prompts whose value in a column of the data names it: {value: teacher}.

    With the estimator mle this is fine-tuning on the texts of all domains' teachers, the off-policy baseline of MOPD
    (arXiv 2606.30406). Raises ValueError for a prompt whose value is not named.
    """

    OTHERS: ClassVar[dict] = {"to": "sampled"}

    column: str = "domain"
    to: dict[str, str] = field(default_factory=dict)

    def rows(self, draw: Draw) -> Batch:
        picks: dict[str, list[int]] = {}
        for i in draw.picks:
            value = str(draw.pool.column(self.column, i))
            if value not in self.to:
                raise ValueError(
                    f"no teacher samples for rows whose {self.column} is '{value}'; named are {', '.join(self.to)}"
                )
            picks.setdefault(self.to[value], []).append(i)
        made = [
            sampled_rows(draw.policies[name], draw.pool, mine, draw.n, draw.step, draw.seed, "rollout", version=draw.version)
            for name, mine in sorted(picks.items())
        ]
        rows = Trajectory.concat([batch.rows for batch in made])
        return Batch(rows, metrics=rollout_metrics(rows))
