"""The loop that every training stage runs: batch -> objective -> optimizer step -> controllers and hooks -> checkpoint.

Pretraining and SFT read their trajectories from a data set, RL and OPD sample them from the policy; nothing else differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import torch

from opd_steps.loop import checkpoint
from opd_steps.loop.guard import Guard
from opd_steps.loop.learner import Learner
from opd_steps.loop.milestones import Milestones
from opd_steps.loop.phases import Phases
from opd_steps.loop.saver import Saver
from opd_steps.loop.spikes import Spikes
from opd_steps.nouns.batch import Batch
from opd_steps.nouns.hook import Hook
from opd_steps.process import ranks
from opd_steps.process.lifetime import StopFlag, Stopped
from opd_steps.seeds import derive
from opd_steps.store.artifacts import Job
from opd_steps.store.metrics import MetricsLog, read_metrics, summarise


def train(
    job: Job,
    learners: Learner | Mapping[str, Learner],
    make_batch: Callable[[int], Batch | Mapping[str, Batch]],
    hooks: tuple[Hook, ...] = (),
    dropout: bool = False,
) -> dict[str, float]:
    """Run the node's `steps` from wherever its work directory stands; returns the summary of its curves.

    `learners`: one, or several by name, of which "" is the main one; they are updated one after the other, in this order.
    `make_batch(step)`, the rows of a step, by learner where there are several, must depend on its step and the policies' weights
    alone; then a killed and resumed run ends with the same bytes as an unbroken one. `hooks` (nouns.hook) look at the main learner.
    `dropout`: as the model's config has it; without, log-probs are those of the policy that samples.
    It ends before its last step when a hook says that it is over.
    Raises UserError at the first loss, gradient norm, other figure or weight that is not finite (loop.guard).
    """
    options = job.options
    learners = {"": learners} if isinstance(learners, Learner) else dict(learners)
    main = learners[""]
    for name, learner in learners.items():
        learner.start(name, options, job.seed)
    guard = Guard(job, [learner.policy.model for learner in learners.values()])
    spikes = Spikes(options["spikes"], guard.end)
    hooks = (*hooks, spikes, guard, Milestones(job.work, options["keep"]))
    stateful = [*hooks, *(learner.work for learner in learners.values())]
    trained = {name: (learner.policy.model, learner.optimizer) for name, learner in learners.items()}
    states = lambda: {"hooks": [each.state_dict() for each in stateful]}
    state = checkpoint.load(job.work, trained, states())
    start = state["step"] if state else 0
    for each, saved in zip(stateful, state["hooks"] if state else (), strict=False):
        each.load_state_dict(saved)
    log = MetricsLog(job.work / "metrics.jsonl", start) if ranks.first() else None
    stop, steps, shown, saved = StopFlag(), options["steps"], time.monotonic(), start
    phases = Phases()
    stopping = lambda: max(ranks.gather(stop.wanted))  # all ranks stop at the same step
    over = lambda: any(hook.over for hook in hooks)
    allows = lambda learner, figures: guard.allows(learner, figures) and spikes.allows(learner, figures)
    if start:
        print(f"resuming after step {start}", flush=True)

    saver = Saver(job.work, options.get("checkpoint_async", False))

    def save(step: int, leaving: bool) -> str:
        begun = time.monotonic()
        if not step:
            return "before its first step; run again to begin"
        with phases.of("checkpoint"):
            if step > saved:
                saver.save(step, trained, states())
            if leaving:
                saver.settle(wait=True)
        return f"after step {step}; its checkpoint is saved, in {time.monotonic() - begun:.1f} s; run again to go on"

    for learner in learners.values():
        learner.policy.model.train(dropout)
    for step in range(start + 1, start + 1 if over() else steps + 1):
        spikes.begin(step)
        with guard.watch(step):
            if dropout:  # a function of the step, as all randomness: there is no state to be saved
                torch.manual_seed(derive(job.seed, "dropout", step, ranks.rank()))
            stop.gives_up = True
            try:
                with phases.of("batch"):
                    made = make_batch(step)
            except Stopped:  # what it waited for may never come; the step is made anew
                wanted = stopping()  # of all ranks, for all of them are here (rollout.vllm_link)
                job.note(f"stopped by signal {wanted} {save(step - 1, leaving=True)}")
                raise SystemExit(128 + wanted) from None
            stop.gives_up = False  # an update cannot be taken back: hooks that sample go on to their end
            batches = {"": made} if isinstance(made, Batch) else made
            metrics: dict[str, float] = {}
            for name, learner in learners.items():
                batch = batches[name]
                with phases.of("update"):
                    stats = learner.update(step, batch, partial(allows, name), hooks if learner is main else ())
                metrics |= {f"{learner.curve}{key}": value for key, value in {**stats, **batch.metrics}.items()}
                metrics[f"{learner.curve}tokens"] = tokens = float(batch.rows.length_B.sum())
                phases.tokens += tokens
            phases.steps += 1
            metrics |= {f"train/{key}": value for key, value in (guard.figures() | spikes.figures()).items()}  # of all learners
            metrics = ranks.gather(metrics)[0]  # hooks of all ranks decide from the same bits
            with phases.of("hooks"):
                for hook in hooks:
                    hook(step, main.policy, metrics)
            if log:
                log.append(step, metrics)
            last = step == steps or over()
            if time.monotonic() - shown > 5 or last:
                shown = time.monotonic()
                job.measured = phases.told()  # tracking.live looks there
                print(f"{_progress(step, steps, metrics)}  {phases}", flush=True)
            if saver.pending:
                with phases.of("checkpoint"):
                    saver.settle()
            if (stopped := bool(stopping())) or last or step % options["checkpoint_every"] == 0:
                said, saved = save(step, leaving=stopped or last), step
                if (wanted := stopping()) and not last:
                    job.note(f"stopped by signal {wanted} {said if stopped else save(step, leaving=True)}")
                    raise SystemExit(128 + wanted)
            if last:
                break
    job.measured = phases.told()
    if not log:
        return {}
    log.close()
    return summarise(read_metrics(job.work / "metrics.jsonl"))


def _progress(step: int, steps: int, metrics: dict[str, float]) -> str:
    shown = ("loss", "reward", "log_ratio", "divergence", "entropy", "length", "grad_norm")
    parts = [f"{name} {metrics[f'train/{name}']:.4g}" for name in shown if f"train/{name}" in metrics]
    return f"step {step}/{steps}  " + "  ".join(parts)
