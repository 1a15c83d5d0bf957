"""Suites: what a finished model is measured with. A suite is one file here, named as `suite` on an `evaluate` node."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from opd_steps.nouns.policy import Policy
    from opd_steps.nouns.task import Pool
    from opd_steps.store.artifacts import Job


class Suite(Protocol):
    """Measures a model on the splits of a task. A metric has a direction: "up" (more is better), "down" (less is), "" (neither).

    READS     options of the evaluate node that it looks at, of k, temperature, top_p, stop, benchmarks, benchmark_data, fewshot, backend,
              options; splits, limit, max_new_tokens and batch are every suite's. A node that sets one that is not read is refused
    METRICS   what it measures of each split (`<split>/<name>`), with its direction
    OWN       what it measures beside, with its direction
    WHEN      metric -> the option, or the role `teacher`, without which it is not measured
    PROMPTS   metric -> its value at one prompt, an expression over the columns of the prompt's row in samples/<split>.jsonl, which has an
              `id`, and over the facts: the metric is the mean of it; rows with one id are averaged. Others have no such values
    VERIFIER  the option or role without which the figures of the data's verifier are not measured; "" = they never are
    TEXTS     whether it needs a task whose contexts are text
    PLAYS     whether it plays the task (Pool.play), which may answer while the policy acts
    """

    READS: ClassVar[tuple[str, ...]] = ()
    METRICS: ClassVar[dict[str, str]] = {}
    OWN: ClassVar[dict[str, str]] = {}
    WHEN: ClassVar[dict[str, str]] = {}
    PROMPTS: ClassVar[dict[str, str]] = {}
    VERIFIER: ClassVar[str] = ""
    TEXTS: ClassVar[bool] = False
    PLAYS: ClassVar[bool] = True

    @abstractmethod
    def evaluate(
        self, job: Job, policy: Policy, pools: dict[str, Pool], teacher: Policy | None
    ) -> tuple[dict[str, float], dict]:
        """(metrics, facts); tables and samples go into job.stage. `directions` in the facts: of metrics that only the run knows.

        policy    samples at temperature 1, at most max_new_tokens, to the first stop string
        pools     the node's splits
        teacher   where the node names one; its decisions are those of `policy`
        """
