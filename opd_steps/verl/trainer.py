"""verl's synchronous trainer with our step: rows, our verifier and advantages, one update by our loss, our curves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
import transfer_queue as tq
from omegaconf import OmegaConf, open_dict
from tensordict import TensorDict
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.debug import marked_timer

from opd_steps.config import plugs
from opd_steps.loop.batches import rollout_metrics
from opd_steps.loop.optim import learning_rate
from opd_steps.models.folder import load_tokenizer
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.store.metrics import MetricsLog
from opd_steps.verl import replica  # noqa: F401  (registers itself)
from opd_steps.verl.loss import SUMS, WORST, Loss
from opd_steps.verl.outcomes import outcome
from opd_steps.verl.settings import STOP


class Stopped(RuntimeError):
    """Told to, after a step, whose checkpoint is saved."""


class Watched(ReplayBuffer):
    """verl's buffer, which ends the run when a row could not be made. `errors`: the file where agents wrote why."""

    def _sync_metadata_from_transfer_queue(self) -> None:
        super()._sync_metadata_from_transfer_queue()
        if any(self.failure_keys.values()):
            file = Path(self.sampler_kwargs["errors"])
            said = file.read_text().splitlines() if file.exists() else []
            raise RuntimeError(f"a row could not be made: {said[0] if said else 'nobody says why'}")


@register_trainer("distillery")
class Trainer(PPOTrainerSync):
    """`config.distillery`: what opd_steps.verl.node writes beside verl's own keys."""

    def __init__(self, config):
        self.ours = SimpleNamespace(**OmegaConf.to_container(config.distillery, resolve=True))
        self.work = Path(self.ours.work)
        with open_dict(config):  # it is verl's synchronous one, by another name
            config.trainer.v1.trainer_mode = "sync"
        super().__init__(config)

    def on_init_end(self) -> None:
        self.actor_rollout_wg.set_loss_fn(Loss(self.ours.method, self.ours.window, tuple(self.ours.teachers)))
        super().on_init_end()
        world, seen = self.ours.task, SimpleNamespace(tokenizer=load_tokenizer(self.ours.student))
        self.pool = plugs.load("tasks/worlds", world).pool(Path(self.ours.data), "train", seen)
        self.log = MetricsLog(self.work / "metrics.jsonl", self.global_steps)

    def on_step_begin(self) -> None:
        super().on_step_begin()
        if (self.work / STOP).exists():
            done = self.global_steps - 1
            if done and not (Path(self.config.trainer.default_local_dir) / f"global_step_{done}").exists():
                self.global_steps = done
                self._save_checkpoint()
            raise Stopped(f"after step {done}")

    def _step_once(self, metrics: dict, timing_raw: dict, sample_batch_size: int):
        with marked_timer("gen", timing_raw):
            self.on_sample_begin()
            batch, _ = self.replay_buffer.sample(
                global_steps=self.global_steps, partition_id="train", batch_size=sample_batch_size
            )
            batch.extra_info["temperature"] = self.config.actor_rollout_ref.rollout.temperature
            self.on_sample_end()
        batch = self._balance_batch(batch, metrics={})
        with marked_timer("judge", timing_raw):
            figures = self._judge(batch)
        with marked_timer("update_actor", timing_raw):
            figures |= self._updated(batch)
        metrics |= {f"train/{name}": value for name, value in figures.items()}
        return batch

    def _judge(self, batch) -> dict[str, float]:
        """Reward and compare the rows of the step; their outcome goes to the workers as a column."""
        fields = ["prompts", "responses", "rollout_log_probs", "index"]
        found = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        actions = [row.long() for row in found["responses"].unbind()]
        rows = Trajectory(
            [row.tolist() for row in found["prompts"].unbind()],
            actions,
            torch.tensor([int(i) for i in found["index"]]),
            logp=[row.float() for row in found["rollout_log_probs"].unbind()],
            ended_B=torch.tensor([int(row[-1]) in self.ours.ends for row in actions]),
        )
        rows = self.pool.judge(rows)
        outcome_B, figures = outcome(self.ours.kind, rows, self.ours.rewards)
        if outcome_B is not None:
            column = TensorDict({"outcome": outcome_B}, batch_size=len(rows))
            tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=column)
        told = {"tokens": float(rows.length_B.sum())} | ({"teacher_rows": float(len(rows))} if self.ours.teachers else {})
        return rollout_metrics(rows) | figures | told

    def _updated(self, batch) -> dict[str, float]:
        rows = self.ours.rows
        told = {"distillation_use_topk": True, "distillation_only": True, "calculate_entropy": False, "epochs": 1, "seed": 0}
        told |= {"global_batch_size": rows, "mini_batch_size": rows, "dataloader_kwargs": {"shuffle": False}}
        batch.extra_info.update(told)
        said = self.actor_rollout_wg.update_actor(batch)["metrics"]
        one = lambda value: float(value[0] if isinstance(value, list) else value)  # of one update
        found = {name.removeprefix(part): one(v) for name, v in said.items() for part in (SUMS, WORST) if name.startswith(part)}
        found |= {"loss": one(said["loss"]), "grad_norm": one(said["grad_norm"])}
        return found | {"lr": learning_rate(self.global_steps, self.ours.steps, self.ours.optim)}

    def _compute_metrics(self, batch, metrics: dict, timing_raw: dict, global_steps: int, epoch: int) -> None:
        """A line of our curves; raises NotFinite, which ends the run, for one that is no number."""
        self.log.append(global_steps, {name: value for name, value in metrics.items() if name.startswith("train/")})
