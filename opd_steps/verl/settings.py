"""A node's options as verl's configuration: every key that differs from verl's own defaults, by its dotted name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opd_steps.errors import UserError

ACTOR, ROLLOUT, TEACHER = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "distillation.teacher_models.teacher_model"
STOP = "stop"  # a file of the work folder, which asks the trainer to save after the step under way, and to end
FAILED, STOPPED = 3, 4  # how verl.launch ends: with a line in the work folder's file `failed`; as it was asked to
TORCH = {"float32": "fp32", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Places:
    """model, teacher   folders in the HF format; teacher "" = nobody is asked
    prompts   the table of verl's prompts, in the order of the steps
    longest   tokens of the longest of them
    adapter   folder of the adapter that is trained, in peft's format, as it is before the first step; "" = the model itself
    work      checkpoints and curves of this run
    """

    model: str
    teacher: str
    prompts: str
    longest: int
    work: Path
    adapter: str = ""


def settings(options: dict, places: Places, topk: int) -> dict[str, Any]:
    """`topk`: how many of the teacher's likeliest tokens are asked for, beside the sampled one. Later keys go before earlier ones:
    those of the user's own `trainer.set` come last.
    """
    parts = (_data, _student, _optimizer, _rollout, _run)
    found: dict[str, Any] = {}
    for part in parts:
        found |= part(options, places)
    return found | (_teacher(options, places, topk) if places.teacher else {}) | _own(options["trainer"]["set"])


def ranks(options: dict) -> int:
    """GPUs that train."""
    return options["trainer"]["nodes"] * options["trainer"]["gpus_per_node"]


def micro_batch(options: dict) -> int:
    """Rows of one pass on a GPU: as many as the node says or fewer, so that they divide a GPU's rows of an update."""
    rows = options["prompts"] * options["sampling"]["n"] // options["minibatches"] // ranks(options)
    return next(size for size in range(min(options["micro_batch"], rows), 0, -1) if rows % size == 0)


def _data(o: dict, places: Places) -> dict[str, Any]:
    return {
        "data.train_files": [places.prompts],
        "data.val_files": [places.prompts],  # never read: verl wants some
        "data.val_max_samples": 1,
        "data.train_batch_size": o["prompts"],
        "data.max_prompt_length": places.longest,
        "data.max_response_length": o["sampling"]["max_new_tokens"],
        "data.shuffle": False,
        "data.dataloader_num_workers": 0,
    }


def _student(o: dict, places: Places) -> dict[str, Any]:
    compute, held, attention = TORCH[o["dtype"]], TORCH[o["weights"]], o["attention"] or "sdpa"
    packed = attention.startswith("flash")  # others would look from one row into the next
    precision = {"param_dtype": compute, "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    adapter = {
        "actor_rollout_ref.model.lora_adapter_path": places.adapter,
        "actor_rollout_ref.model.lora_rank": o["tune"].get("r"),
        "actor_rollout_ref.model.lora": {"merge": True},  # samplers are given whole weights
    }
    return (adapter if places.adapter else {}) | {
        "actor_rollout_ref.model.path": places.model,
        "actor_rollout_ref.model.override_config": {"attn_implementation": attention},
        "actor_rollout_ref.model.use_remove_padding": packed,
        "actor_rollout_ref.model.enable_gradient_checkpointing": o["recompute"],
        f"{ACTOR}.strategy": "fsdp2",
        f"{ACTOR}.fsdp_config.strategy": "fsdp2",
        f"{ACTOR}.fsdp_config.dtype": o["dtype"],
        f"{ACTOR}.fsdp_config.model_dtype": held,
        f"{ACTOR}.fsdp_config.mixed_precision": precision,
        f"{ACTOR}.fsdp_config.use_torch_compile": False,
        f"{ACTOR}.use_torch_compile": False,
        f"{ACTOR}.ppo_mini_batch_size": o["prompts"],
        f"{ACTOR}.ppo_micro_batch_size_per_gpu": micro_batch(o),
        f"{ACTOR}.checkpoint.save_contents": ["model", "optimizer", "extra", "hf_model"],
    }


def _optimizer(o: dict, places: Places) -> dict[str, Any]:
    optim = o["optim"]
    return {
        f"{ACTOR}.optim.optimizer": "AdamW",
        f"{ACTOR}.optim.optimizer_impl": "opd_steps.verl.optimizer",
        f"{ACTOR}.optim.override_optimizer_config": {"options": optim, "updates": o["steps"] * o["minibatches"]},
        f"{ACTOR}.optim.lr": optim["lr"],
        f"{ACTOR}.optim.weight_decay": optim["weight_decay"],
        f"{ACTOR}.optim.betas": optim["betas"],
        f"{ACTOR}.optim.clip_grad": optim["clip"] or float("inf"),
        f"{ACTOR}.grad_clip": optim["clip"] or float("inf"),
    }


def _engine(engine: dict, dtype: str) -> dict[str, Any]:
    """Of a vLLM, by verl's names."""
    found = {"name": "vllm", "dtype": engine["dtype"] or dtype, "tensor_model_parallel_size": engine["tensor_parallel"]}
    found |= {"gpu_memory_utilization": engine["memory"], "enforce_eager": engine["eager"], "max_num_seqs": engine["batch"]}
    return found | ({"max_model_len": engine["max_model_len"]} if engine["max_model_len"] else {})


def _rollout(o: dict, places: Places) -> dict[str, Any]:
    sampling = o["sampling"]
    found = _engine(o["engine"], o["dtype"]) | {
        "n": sampling["n"],
        "temperature": sampling["temperature"],
        "top_p": sampling["top_p"],
        "top_k": sampling["top_k"] or -1,
        "calculate_log_probs": True,
        "log_prob_micro_batch_size_per_gpu": micro_batch(o),
        "agent.default_agent_loop": "distillery",
        "agent.num_workers": o["trainer"]["nodes"],
        "agent.agent_loop_manager_class": "opd_steps.verl.agent.Manager",
    }
    return {f"{ROLLOUT}.{name}": value for name, value in found.items()}


def _teacher(o: dict, places: Places, topk: int) -> dict[str, Any]:
    inference = {
        f"inference.{name}": value for name, value in _engine(o["teacher_engine"], o["teacher_dtype"] or o["dtype"]).items()
    }
    return {
        "distillation.enabled": True,
        "distillation.nnodes": o["trainer"]["teacher_nodes"],
        "distillation.n_gpus_per_node": o["trainer"]["gpus_per_node"],
        "distillation.distillation_loss.loss_mode": "distillery_top" if topk else "distillery_sampled",
        "distillation.distillation_loss.topk": topk or None,
        "distillation.distillation_loss.use_task_rewards": False,
        "distillation.distillation_loss.use_policy_gradient": False,
        f"{TEACHER}.model_path": places.teacher,
        **{f"{TEACHER}.{name}": value for name, value in inference.items()},
    }


def _run(o: dict, places: Places) -> dict[str, Any]:
    return {
        "algorithm.adv_estimator": "grpo",  # never asked: the trainer's own step makes advantages as ours
        "critic.enable": False,
        "reward.num_workers": 1,
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": o["trainer"]["nodes"],
        "ray_kwargs.ray_init.address": o["trainer"]["address"] or "local",  # without one it would join whatever Ray it finds
        "trainer.nnodes": o["trainer"]["nodes"],
        "trainer.n_gpus_per_node": o["trainer"]["gpus_per_node"],
        "trainer.total_epochs": 1,
        "trainer.total_training_steps": o["steps"],
        "trainer.save_freq": o["checkpoint_every"],
        "trainer.max_actor_ckpt_to_keep": 1,
        "trainer.default_local_dir": str(places.work / "verl"),
        "trainer.resume_mode": "auto",
        "trainer.val_before_train": False,
        "trainer.test_freq": -1,
        "trainer.logger": ["console"],
        "trainer.project_name": "distillery",
        "trainer.experiment_name": places.work.name,
        "trainer.v1.trainer_mode": "distillery",
        "trainer.v1.sampler.custom_sampler.path": "pkg://opd_steps.verl.trainer",
        "trainer.v1.sampler.custom_sampler.name": "Watched",
        "trainer.v1.sampler.sampler_kwargs": {"errors": str(places.work / "errors")},
    }


def _own(texts: list[str]) -> dict[str, str]:
    """The user's keys; their values are read as YAML where they are used."""
    found = {}
    for i, text in enumerate(texts):
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UserError(
                f"trainer.set[{i}]", f"expected a key of verl's configuration and a value, key=value; found {text!r}"
            )
        found[key] = f"yaml:{value}"
    return found
