"""verl's synchronous trainer, with our step in place of its own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from omegaconf import OmegaConf, open_dict
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.debug import marked_timer

from opd_steps.verl import replica  # noqa: F401  (registers itself)
from opd_steps.verl.settings import STOP
from opd_steps.verl.step import Step


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
        super().on_init_end()
        self.distillery = Step(self.ours, self.actor_rollout_wg, self.global_steps)

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
        with marked_timer("update_actor", timing_raw):
            self.distillery.of(batch, self.global_steps)
        return batch

    def _compute_metrics(self, *_, **__) -> None:
        """Curves are ours: the step has written them, before a checkpoint of it is saved."""
