"""RL with verifiable rewards: GRPO, with Dr.GRPO and DAPO as switches (arXiv 2402.03300, 2503.20783, 2503.14476)."""

from __future__ import annotations

import torch

from opd_steps.config import plugs
from opd_steps.errors import UserError
from opd_steps.loop.batches import rollout_metrics, sampled_rows, told_apart
from opd_steps.loop.learner import Learner
from opd_steps.loop.objective import Objective
from opd_steps.loop.train import train
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.outcome import grpo_B, silent_groups, trained_on
from opd_steps.objectives.stream import VANILLA
from opd_steps.steps._engines import sampling_engine
from opd_steps.steps._main import main
from opd_steps.steps._models import adapts, load_policy, load_pool
from opd_steps.steps._training import hooks_of, publish_model
from opd_steps.store.artifacts import Job


def run(job: Job) -> None:
    """Sample groups, turn rewards into advantages, one clipped policy-gradient step per minibatch."""
    options, sampling = job.options, job.options["sampling"]
    facts = {"traces_from": job.manifests["policy"]["facts"].get("traces_from")}
    if options.get("trainer", {}).get("name") == "verl":
        from opd_steps.steps import _verl  # code of such nodes alone (graph/code.py)

        return _verl.rl(job, method(options), facts)
    policy = load_policy(job, "policy", sampling, options["engine"]["batch"], train=True)
    pool = load_pool(job, "train", policy)
    policy.engine = sampling_engine(job, "policy", pool, sampling["max_new_tokens"], learns=True)
    reference = None
    if options["kl"]:
        reference = policy.begun() if adapts(job) else load_policy(job, "policy", sampling)

    def make_batch(step: int) -> Batch:
        batch = group_batch(policy, pool, step, job.seed, options)
        batch.metrics.update(told_apart(batch.rows, pool, options["by"], batch.metrics))
        return batch

    teachers = {"reference": reference} if reference else {}
    learner = Learner(policy, objective(options), teachers, plugs.load("gradients", options["gradient"]))
    metrics = train(job, learner, make_batch, hooks_of(job, policy, "policy", pool))
    publish_model(job, policy, metrics, facts)


def objective(options: dict) -> Objective:
    return Objective.from_method(method(options), options["sampling"]["max_new_tokens"])


def method(options: dict) -> dict:
    """Clipped surrogate on the group advantage, and beta * k3 to the initial policy when `kl` is set."""
    clip = {"ratio": "sampler", "clip_low": options["clip_low"], "clip_high": options["clip_high"]}
    surrogate = {**VANILLA, "signal": {"name": "outcome"}, "estimator": {"name": "pg", **clip}}
    anchor = {**VANILLA, "estimator": {"name": "k3"}, "coef": options["kl"], "against": "reference"}
    return {**surrogate, "add": [anchor] if options["kl"] else [], "aggregate": options["aggregate"]}


def group_batch(policy, pool: Pool, step: int, seed: int, options: dict) -> Batch:
    """The step's groups with their advantages; with dynamic sampling, silent groups are replaced by fresh prompts.

    Raises UserError when `max_refills` generation batches did not fill the step.
    """
    wanted, n = options["prompts"], options["sampling"]["n"]
    kept: list[Trajectory] = []
    have, silent, seen = 0, 0, 0
    for attempt in range(options["max_refills"] if options["dynamic_sampling"] else 1):
        purpose = "prompts" if attempt == 0 else f"refill {attempt}"
        batch = sampled_rows(policy, pool, pool.pick(seed, step, wanted, purpose), n, step, seed, "rollout", attempt)
        group_B = torch.arange(wanted).repeat_interleave(n)
        mute_B = silent_groups(batch.rows.reward_B, group_B)
        silent, seen = silent + int(mute_B.sum()) // n, seen + wanted
        if not options["dynamic_sampling"]:
            kept = [batch.rows]
            break
        spread = [g for g in range(wanted) if not mute_B[g * n]][: wanted - have]
        kept.append(batch.rows.rows([g * n + i for g in spread for i in range(n)]))
        have += len(spread)
        if have == wanted:
            break
    else:
        raise UserError(
            f"step {step}", f"{options['max_refills']} generation batches gave {have} of {wanted} groups with spread"
        )
    rows = Trajectory.concat(kept)
    group_B = torch.arange(wanted).repeat_interleave(n)
    outcome_B = grpo_B(rows, group_B, options)
    told = {"silent_groups": silent / seen, "refills": seen // wanted - 1}
    return Batch(rows, {"outcome": outcome_B}, rollout_metrics(rows) | told | trained_on(rows, group_B))


if __name__ == "__main__":
    main(run)
