"""A step of our trainer: verl's rows judged and shown to teachers, what the whole step makes of them, updates by our loss, our curves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transfer_queue as tq
from tensordict import TensorDict

from opd_steps.config import plugs
from opd_steps.loop.batches import rollout_metrics
from opd_steps.loop.conductor import Conductor
from opd_steps.loop.objective import Objective
from opd_steps.loop.optim import learning_rate
from opd_steps.loop.terms import terms_of
from opd_steps.models.folder import load_tokenizer
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.objectives.stream import Moment
from opd_steps.seeds import rng
from opd_steps.store.metrics import MetricsLog, read_metrics
from opd_steps.teachers.router import Router
from opd_steps.verl import columns
from opd_steps.verl.loss import SUMS, WORST, Loss
from opd_steps.verl.outcomes import outcome


class Step:
    """ours      what opd_steps.verl.node writes beside verl's own keys
    workers   verl's group of training workers
    done      steps that were made before: curves go on behind them, and controllers are where they were
    """

    def __init__(self, ours: SimpleNamespace, workers: Any, done: int):
        self.ours, self.workers, self.given = ours, workers, None
        seen = SimpleNamespace(tokenizer=load_tokenizer(ours.student))
        self.pool = plugs.load("tasks/worlds", ours.task).pool(Path(ours.data), "train", seen)
        self.contexts = {name: plugs.load("teachers/contexts", told) for name, told in ours.contexts.items()}
        routes = {name: told for name, told in ours.teachers.items() if told and "to" in told}
        self.routers = {name: Router(told["column"], dict.fromkeys(told["to"]), self.pool) for name, told in routes.items()}
        behind = {other for told in routes.values() for other in told["to"].values()}
        self.reading = len(ours.teachers.keys() - behind) if ours.kind == "opd" else 0
        self.log = MetricsLog(Path(ours.work) / "metrics.jsonl", done)
        self.objective = Objective.from_method(ours.method, ours.window)
        controllers = [plugs.load("schedules", item) for item in ours.controllers]
        options = {"method": ours.method, "learners": {}, "steps": ours.steps, "sampling": {"max_new_tokens": ours.window}}
        self.conductor = Conductor(options, controllers, {"": self.objective}, ())
        for row in read_metrics(Path(ours.work) / "metrics.jsonl"):
            self.conductor(row["step"], None, dict(row))

    def of(self, batch: Any, step: int) -> None:
        """Train on the rows of a step, and write a line of our curves; raises NotFinite, which ends the run, for what is no number."""
        rows, figures = self._judged(batch, step)
        number, size = (step - 1) * self.ours.minibatches, len(rows) // self.ours.minibatches
        order = list(range(len(rows)))
        if self.ours.minibatches > 1:
            order = rng(self.ours.seed, "minibatch", step).permutation(len(rows)).tolist()
        self._tell()
        for k in range(self.ours.minibatches):
            index = order[k * size : (k + 1) * size] if self.ours.minibatches > 1 else order
            part = batch.select_keys([batch.keys[i] for i in index]) if self.ours.minibatches > 1 else batch
            part.extra_info.update(_fixed(len(index)))
            figures |= self._weighed(part, rows.rows(index), step) | self._updated(part, number + k + 1)
        metrics = {f"train/{name}": value for name, value in figures.items()}
        self.conductor(step, None, metrics)
        self.log.append(step, metrics)

    def _tell(self) -> None:
        """The workers the method, as controllers made it."""
        if self.conductor.options["method"] != self.given:
            self.given = self.conductor.options["method"]
            self.workers.set_loss_fn(Loss(self.given, self.ours.teachers))

    def _judged(self, batch: Any, step: int) -> tuple[Trajectory, dict[str, float]]:
        """The rows, rewarded and compared, with what teachers read; their outcome and that go to the workers as columns."""
        found = _columns(batch, ["prompts", "responses", "rollout_log_probs", "index"])
        actions = [row.long() for row in found["responses"].unbind()]
        rows = Trajectory(
            [row.tolist() for row in found["prompts"].unbind()],
            actions,
            torch.tensor([int(i) for i in found["index"]]),
            logp=[row.float() for row in found["rollout_log_probs"].unbind()],
            version_B=torch.full((len(actions),), step - 1),
            ended_B=torch.tensor([int(row[-1]) in self.ours.ends for row in actions]),
        )
        rows = self.pool.judge(rows)
        for name, context in self.contexts.items():
            rows = context.prepare(rows, self.pool, self.ours.seed, name)
        for name, router in self.routers.items():
            rows = router.prepare(rows, name)
        outcome_B, figures = outcome(self.ours.kind, rows, self.ours.rewards)
        _put(batch, columns.prepared(rows) | ({} if outcome_B is None else {"outcome": outcome_B}))
        told = {"tokens": float(rows.length_B.sum())}
        told |= {"teacher_rows": float(len(rows) * self.reading)} if self.reading else {}
        return rows, rollout_metrics(rows) | figures | told

    def _weighed(self, batch: Any, rows: Trajectory, step: int) -> dict[str, float]:
        """What all rows of an update make of each decision goes to the workers as columns, after they measured, where that is asked."""
        streams, found = self.objective.streams, None
        if any(stream.surveys for stream in streams):
            batch.extra_info["survey"] = True
            said = self.workers.compute_log_prob(batch)
            names = [name for name in said.fields if name.startswith(columns.SURVEY)]
            found = columns.surveyed(_columns(batch, names), rows.length_B, len(streams))
        batch.extra_info["survey"] = False
        moment = Moment(step, self.ours.seed, self.ours.window)
        each, figures = terms_of(streams, self.objective.aggregate, self.ours.window, rows, found, moment)
        _put(batch, columns.constants(each, rows.length_B))
        return figures

    def _updated(self, batch: Any, number: int) -> dict[str, float]:
        """Update number `number` of the training."""
        said = self.workers.update_actor(batch)["metrics"]
        one = lambda value: float(value[0] if isinstance(value, list) else value)  # of one update
        found = {name.removeprefix(part): one(v) for name, v in said.items() for part in (SUMS, WORST) if name.startswith(part)}
        found |= {"loss": one(said["loss"]), "grad_norm": one(said["grad_norm"])}
        return found | {"lr": learning_rate(number, self.ours.steps * self.ours.minibatches, self.ours.optim)}


def _fixed(rows: int) -> dict[str, Any]:
    """What verl's workers are told of rows that make one update together."""
    told = {"distillation_use_topk": True, "distillation_only": True, "calculate_entropy": False}
    told |= {"global_batch_size": rows, "mini_batch_size": rows, "epochs": 1, "seed": 0}
    return told | {"dataloader_kwargs": {"shuffle": False}}


def _columns(batch: Any, names: list[str]) -> TensorDict:
    return tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)


def _put(batch: Any, found: dict) -> None:
    if found:
        told = TensorDict(found, batch_size=len(batch.keys))
        tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=told)
