"""The evaluate step: a finished model, measured by its node's suite."""

from __future__ import annotations

from opd_steps.config import plugs
from opd_steps.evaluation.by_value import by_value
from opd_steps.steps._main import main
from opd_steps.steps._models import load_policy, load_pool, require_same
from opd_steps.store.artifacts import Job


def run(job: Job) -> None:
    """Load the model, and the teacher that it is compared with, and publish what the suite measures."""
    options = job.options
    sampling = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": options["max_new_tokens"], "stop": options["stop"]}
    policy, teacher = load_policy(job, "model", sampling, options["batch"]), None
    if "teacher" in job.parents:
        teacher = load_policy(job, "teacher", sampling, options["batch"])
        require_same(policy, teacher, job, "teacher")
    pools = {split: load_pool(job, split, policy, options["limit"]) for split in options["splits"]}
    for pool in pools.values() if options["by"] else ():
        pool.column(options["by"], 0)  # a column that is not there is said before anything is computed
    suite = plugs.load("evaluation/suites", options["suite"])
    metrics, facts = suite.evaluate(job, policy, pools, teacher)
    if options["by"]:
        metrics |= by_value(job.stage, pools, options["by"], suite.PROMPTS, metrics, {"k": options["k"]} | facts)
    job.publish(metrics, facts | policy.family.identity(policy))


if __name__ == "__main__":
    main(run)
