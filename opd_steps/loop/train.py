"""The loop that every training stage runs: batch -> objective -> optimizer step -> controllers and hooks -> checkpoint.

Pretraining and SFT read their trajectories from a data set, RL and OPD sample them from the policy; nothing else differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from opd_steps.loop import checkpoint
from opd_steps.loop.guard import Guard
from opd_steps.loop.objective import Objective
from opd_steps.loop.optim import apply_gradient, clip_gradient, gradient_variance, make_optimizer
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.hook import Hook
from opd_steps.nouns.policy import Policy, Teacher
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.process import ranks
from opd_steps.process.lifetime import StopFlag, Stopped
from opd_steps.seeds import derive, rng
from opd_steps.store.artifacts import Job
from opd_steps.store.metrics import MetricsLog, read_metrics, summarise

VARIANCE_EVERY = 10  # steps between two readings of Adam's moments


def train(
    job: Job,
    policy: Policy,
    make_batch: Callable[[int], Batch],
    objective: Objective,
    teacher: Teacher | None = None,
    reference: Teacher | None = None,
    hooks: tuple[Hook, ...] = (),
    dropout: bool = False,
) -> dict[str, float]:
    """Run the node's `steps` from wherever its work directory stands; returns the summary of its curves.

    `make_batch(step)` must depend on its step and the policy's weights alone; then a killed and resumed run ends with the
    same bytes as an unbroken one. `hooks`: called in this order (nouns.hook).
    `dropout`: as the model's config has it; without, log-probs are those of the policy that samples.
    Raises UserError at the first loss, gradient norm, other figure or weight that is not finite (loop.guard).
    """
    options = job.options
    optimizer = make_optimizer(policy.model, options["optim"])
    guard = Guard(job)
    hooks = (*hooks, guard)
    state = checkpoint.load(job.work, policy.model, optimizer)
    start = state["step"] if state else 0
    for hook, saved in zip(hooks, state["hooks"] if state else (), strict=False):
        hook.load_state_dict(saved)
    log = MetricsLog(job.work / "metrics.jsonl", start) if ranks.first() else None
    stop, steps, shown, saved = StopFlag(), options["steps"], time.monotonic(), start
    stopping = lambda: max(ranks.gather(stop.wanted))  # all ranks stop at the same step
    updates, inner = steps * options.get("minibatches", 1), options.get("minibatches", 1)
    if start:
        print(f"resuming after step {start}", flush=True)

    def save(step: int) -> str:
        begun = time.monotonic()
        if not step:
            return "before its first step; run again to begin"
        if step > saved:
            checkpoint.save(job.work, step, policy.model, optimizer, {"hooks": [h.state_dict() for h in hooks]})
        return f"after step {step}; its checkpoint is saved, in {time.monotonic() - begun:.1f} s; run again to go on"

    policy.model.train(dropout)
    for step in range(start + 1, steps + 1):
        with guard.watch(step):
            if dropout:  # a function of the step, as all randomness: there is no state to be saved
                torch.manual_seed(derive(job.seed, "dropout", step, ranks.rank()))
            try:
                batch, stats = make_batch(step), {}
            except Stopped:  # what it waited for may never come; the step is made anew
                job.note(f"stopped by signal {stop.wanted} {save(step - 1)}")
                raise SystemExit(128 + stop.wanted) from None
            for k, index in enumerate(_split(len(batch.rows), inner, job.seed, step)):
                part, columns = (batch.rows, batch.columns) if inner == 1 else _pick(batch, index)
                moment = Moment(step, job.seed, objective.window)
                found = objective.backward(policy, part, columns, teacher, reference, options["micro_batch"], moment)
                for hook in hooks:
                    hook.before_step(policy)
                found["grad_norm"] = clip_gradient(optimizer, options["optim"])
                if guard.allows(found):
                    stats |= found | apply_gradient(optimizer, (step - 1) * inner + k + 1, updates, options["optim"])
                optimizer.zero_grad(set_to_none=True)
            if optimizer.state and (step % VARIANCE_EVERY == 0 or step == steps):
                stats["grad_variance"] = gradient_variance(optimizer)
            metrics = {f"train/{name}": value for name, value in (stats | guard.figures() | batch.metrics).items()}
            metrics["train/tokens"] = float(batch.rows.length_B.sum())
            metrics = ranks.gather(metrics)[0]  # hooks of all ranks decide from the same bits
            for hook in hooks:
                hook(step, policy, metrics)
            if log:
                log.append(step, metrics)
            if time.monotonic() - shown > 5 or step == steps:
                shown = time.monotonic()
                print(_progress(step, steps, metrics), flush=True)
            if stopping() or step == steps or step % options["checkpoint_every"] == 0:
                said, saved = save(step), step
                if (wanted := stopping()) and step < steps:
                    job.note(f"stopped by signal {wanted} {said}")
                    raise SystemExit(128 + wanted)
    if not log:
        return {}
    log.close()
    return summarise(read_metrics(job.work / "metrics.jsonl"))


def _split(rows: int, parts: int, seed: int, step: int) -> list[list[int]]:
    order = rng(seed, "minibatch", step).permutation(rows).tolist() if parts > 1 else list(range(rows))
    return [order[k::parts] for k in range(parts)]


def _pick(batch: Batch, index: list[int]) -> tuple[Trajectory, dict]:
    return batch.rows.rows(index), {name: column[index] for name, column in batch.columns.items()}


def _progress(step: int, steps: int, metrics: dict[str, float]) -> str:
    shown = ("loss", "reward", "log_ratio", "divergence", "entropy", "length", "grad_norm")
    parts = [f"{name} {metrics[f'train/{name}']:.4g}" for name in shown if f"train/{name}" in metrics]
    return f"step {step}/{steps}  " + "  ".join(parts)
