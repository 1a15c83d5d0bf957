"""lm-eval on our splits and on built-in tasks, and statistics of the model's own samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from opd_steps.evaluation.harness import clean, directions, evaluate, flat_metrics, load_tasks
from opd_steps.evaluation.own_rollouts import own_statistics
from opd_steps.evaluation.pass_at_k import pass_at_k_table
from opd_steps.evaluation.policy_lm import PolicyLM
from opd_steps.evaluation.split_task import SplitTask
from opd_steps.evaluation.suites import Suite
from opd_steps.evaluation.vllm_lm import vllm_lm
from opd_steps.models.folder import weights_at, where
from opd_steps.rollout.lengths import longest, require_room
from opd_steps.seeds import derive
from opd_steps.store.files import write_json, write_jsonl

if TYPE_CHECKING:
    from lm_eval.api.model import LM

    from opd_steps.models.lm_policy import LMPolicy
    from opd_steps.store.artifacts import Job
    from opd_steps.tasks.pool import PromptPool

OWN_PROMPTS = 256


@dataclass(frozen=True)
class LmEval(Suite):
    """Greedy accuracy of each split, Avg@k and Pass@k of k samples, what the data's verifier measures of these, lm-eval's own
    benchmarks; entropy, length, truncation and repetition of one sample of each of the first 256 prompts, and its distance from a teacher.
    """

    READS: ClassVar[tuple[str, ...]] = (
        "k",
        "temperature",
        "top_p",
        "stop",
        "benchmarks",
        "benchmark_data",
        "fewshot",
        "backend",
        "options",
    )
    METRICS: ClassVar[dict[str, str]] = {"accuracy": "up", "avg_at_k": "up", "pass_at_k": "up"}
    OWN: ClassVar[dict[str, str]] = {
        "own/entropy": "",
        "own/length": "",
        "own/truncated": "",
        "own/repetition": "",
        "own/reverse_kl": "down",
    }
    WHEN: ClassVar[dict[str, str]] = {"avg_at_k": "k", "pass_at_k": "k", "own/reverse_kl": "teacher"}
    PROMPTS: ClassVar[dict[str, str]] = {"accuracy": "correct", "avg_at_k": "c / k", "pass_at_k": "c > 0"}
    VERIFIER: ClassVar[str] = "k"
    TEXTS: ClassVar[bool] = True
    PLAYS: ClassVar[bool] = False

    def evaluate(
        self, job: Job, policy: LMPolicy, pools: dict[str, PromptPool], teacher: LMPolicy | None
    ) -> tuple[dict[str, float], dict]:
        """Own-rollout statistics first, then every task in one lm-eval run."""
        options, tokenizer = job.options, policy.tokenizer
        end = tokenizer.decode([tokenizer.eos_token_id])
        sampling = options["k"], {name: options[name] for name in ("temperature", "top_p")}
        splits = [SplitTask(split, pool, *sampling, options["max_new_tokens"], end) for split, pool in pools.items()]
        asked = options["benchmarks"], options["fewshot"], job.seed, options["benchmark_data"]
        tasks = load_tasks([c for s in splits for c in s.configs()], *asked)
        first = next(iter(pools.values()))
        if options["backend"] == "vllm":
            _require_room(job, pools)
        contexts = first.contexts(list(range(min(OWN_PROMPTS, len(first)))))
        metrics = own_statistics(policy, contexts, job.seed, teacher)
        own = {name: s.pool for s in splits for name in s.names}
        lm = _backend(job, policy, teacher, own)
        found = evaluate(lm, tasks, options["limit"], first.task.chat, first.task.system, job.seed)
        results = clean(found)
        metrics |= flat_metrics(results["results"])
        if options["k"]:
            metrics |= {name: value for s in splits for name, value in s.measures().items()}
        _write(job, splits, results)
        facts = {
            "k": options["k"],
            "n_prompts": {split: len(pool) for split, pool in pools.items()},
            "lm_eval": results["lm_eval"],
        }
        return metrics, facts | {"directions": directions(found, own)}


def _require_room(job: Job, pools: dict[str, PromptPool]) -> None:
    prompt = max(longest(pool.contexts(range(len(pool)))) for pool in pools.values())
    options = job.options["options"]
    asked = options.get("max_model_len") or options.get("max_length") or 0  # lm-eval knows both
    require_room("evaluate.options.max_model_len", where(job.path("model")), asked, prompt, job.options["max_new_tokens"])


def _backend(job: Job, policy: LMPolicy, teacher: LMPolicy | None, own: dict[str, PromptPool]) -> LM:
    options = job.options["options"]
    if job.options["backend"] != "vllm":
        return PolicyLM(policy, job.seed, own, **options)
    for each in filter(None, (policy, teacher)):
        each.model = None  # vLLM loads its own copy and wants the memory
    torch.cuda.empty_cache()
    dtype = job.options["dtype"]
    path = weights_at(job.path("model"), job.work, dtype)
    return vllm_lm(path, derive(job.seed, "vllm"), own, policy.ends, {"dtype": dtype, **options}, job.options["stop"])


def _write(job: Job, splits: list[SplitTask], results: dict) -> None:
    tables = job.stage / "tables"
    tables.mkdir()
    write_json(tables / "results.json", results)
    if job.options["k"]:
        counts = {s.split: [s.correct(i) for i in range(len(s.pool))] for s in splits}
        write_json(tables / "passk.json", {name: pass_at_k_table(c, job.options["k"]) for name, c in counts.items()})
    for s in splits:
        write_jsonl(job.stage / "samples" / f"{s.split}.jsonl", s.table())
