"""Rollouts as a file: samples of a policy on a split, optionally only the correct ones (rejection sampling)."""

from __future__ import annotations

from opd_steps.errors import UserError
from opd_steps.loop.batches import rollout_metrics, sampled_rows
from opd_steps.rollout.table import write_rollouts
from opd_steps.steps._engines import sampling_engine
from opd_steps.steps._main import main
from opd_steps.steps._models import load_pool, load_sampler, weights_id
from opd_steps.store.artifacts import Job
from opd_steps.store.files import write_jsonl


def run(job: Job) -> None:
    """Sample n completions of every prompt and write the rollouts table; facts name the policy by its weights' digest."""
    options, sampling = job.options, job.options["sampling"]
    policy = load_sampler(job, "policy")
    pool = load_pool(job, options["split"], policy, options["limit"])
    policy.engine = sampling_engine(job, "policy", pool, sampling["max_new_tokens"])
    rows = sampled_rows(policy, pool, list(range(len(pool))), sampling["n"], 1, job.seed, "rollout").rows
    found = rollout_metrics(rows)
    ids = [f"{pool.name(int(p))}/{i % sampling['n']}" for i, p in enumerate(rows.prompt_B)]
    picks = [i for i, r in enumerate(rows.reward_B) if options["keep"] == "all" or r > 0]
    if not picks:
        raise UserError(str(job.folder), f"none of {len(rows)} samples is correct, and keep is 'correct': nothing is left")
    texts = pool.show(rows)
    kept_ids, kept_texts = [ids[i] for i in picks], [texts[i] for i in picks]
    write_rollouts(job.stage, rows.rows(picks), kept_ids, kept_texts)
    preview = [{"id": ids[i], "text": texts[i], "reward": float(rows.reward_B[i])} for i in range(min(50, len(rows)))]
    write_jsonl(job.stage / "preview.jsonl", preview)
    metrics = {
        "rollout/accuracy": found["reward"],
        "rollout/length": found["length"],
        "rollout/truncated": found["truncated"],
        "rollout/kept": len(picks) / len(rows),
    }
    facts = {
        "policy": weights_id(job, "policy"),
        **policy.family.identity(policy),
        "tokens": int(rows.rows(picks).length_B.sum()),
        "sampling": sampling,
    }
    job.publish(metrics, facts)


if __name__ == "__main__":
    main(run)
