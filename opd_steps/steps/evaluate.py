"""Evaluation of a model: lm-eval on our splits and on built-in tasks, and statistics of its own samples."""

from __future__ import annotations

import torch

from opd_steps.evaluation.harness import clean, evaluate, flat_metrics, load_tasks
from opd_steps.evaluation.own_rollouts import own_statistics
from opd_steps.evaluation.pass_at_k import pass_at_k_table
from opd_steps.evaluation.policy_lm import PolicyLM
from opd_steps.evaluation.split_task import SplitTask
from opd_steps.evaluation.vllm_lm import vllm_lm
from opd_steps.models.folder import where
from opd_steps.rollout.lengths import longest, require_room
from opd_steps.seeds import derive
from opd_steps.steps._main import main
from opd_steps.steps._models import load_policy, load_pool, require_same
from opd_steps.store.artifacts import Job
from opd_steps.store.files import write_json, write_jsonl

OWN_PROMPTS = 256


def run(job: Job) -> None:
    """Own-rollout statistics first, then every task in one lm-eval run; publishes metrics, tables/ and samples/."""
    options = job.options
    sampling = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": options["max_new_tokens"]}
    policy = load_policy(job, "model", sampling, options["batch"])
    tokenizer = policy.tokenizer
    pools = {split: load_pool(job, split, policy, options["limit"]) for split in options["splits"]}
    end = tokenizer.decode([tokenizer.eos_token_id])
    splits = [SplitTask(s, p, options["k"], options["temperature"], options["max_new_tokens"], end) for s, p in pools.items()]
    tasks = load_tasks([c for s in splits for c in s.configs()], options["benchmarks"], options["fewshot"], job.seed)

    first = next(iter(pools.values()))
    own = {name: s.pool for s in splits for name in s.names}
    if options["backend"] == "vllm":
        prompt = max(longest(pool.contexts(range(len(pool)))) for pool in pools.values())
        asked = options["options"].get("max_model_len") or options["options"].get("max_length") or 0  # lm-eval knows both
        require_room("evaluate.options.max_model_len", where(job.path("model")), asked, prompt, options["max_new_tokens"])
    metrics = own_metrics(job, policy, first.contexts(list(range(min(OWN_PROMPTS, len(first))))), sampling)
    if options["backend"] == "vllm":
        ends = policy.ends
        policy.model = None  # vLLM loads its own copy and wants the memory
        torch.cuda.empty_cache()
        lm = vllm_lm(where(job.path("model")), derive(job.seed, "vllm"), own, ends, options["options"])
    else:
        lm = PolicyLM(policy, job.seed, own, **options["options"])
    results = clean(evaluate(lm, tasks, options["limit"], first.task.chat, first.task.system, job.seed))
    metrics |= flat_metrics(results["results"])
    if options["k"]:
        metrics |= {name: value for s in splits for name, value in s.measures().items()}

    write_results(job, splits, results)
    facts = {
        "k": options["k"],
        "n_prompts": {split: len(pool) for split, pool in pools.items()},
        "lm_eval": results["lm_eval"],
        **policy.family.identity(policy),
    }
    job.publish(metrics, facts)


def own_metrics(job: Job, policy, contexts: list[list[int]], sampling: dict) -> dict[str, float]:
    """Statistics of one fresh sample per context at temperature 1, against the teacher where the node names one."""
    teacher = None
    if "teacher" in job.parents:
        teacher = load_policy(job, "teacher", sampling, job.options["batch"])
        require_same(policy, teacher, job, "teacher")
    return own_statistics(policy, contexts, job.seed, teacher)


def write_results(job: Job, splits: list[SplitTask], results: dict) -> None:
    tables = job.stage / "tables"
    tables.mkdir()
    write_json(tables / "results.json", results)
    if job.options["k"]:
        counts = {s.split: [s.correct(i) for i in range(len(s.pool))] for s in splits}
        write_json(tables / "passk.json", {name: pass_at_k_table(c, job.options["k"]) for name, c in counts.items()})
    for s in splits:
        write_jsonl(job.stage / "samples" / f"{s.split}.jsonl", s.table())


if __name__ == "__main__":
    main(run)
