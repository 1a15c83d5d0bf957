"""One update of verl's FSDP2 engine by our loss, for each case of a file: run in verl's environment, one process a rank.

python -m torch.distributed.run --nproc-per-node 2 -m tests.verl.engine cases.pt found.pt
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import verl  # noqa: F401  (loads tests.verl.cpu)
from tensordict import TensorDict
from verl.trainer.config import CheckpointConfig
from verl.utils import tensordict_utils as tu
from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig
from verl.workers.engine import EngineRegistry

from opd_steps.loop.terms import terms_of
from opd_steps.models.bases import OF_PEFT
from opd_steps.objectives.stream import Moment
from opd_steps.verl import beside, columns
from opd_steps.verl.loss import SUMS, Loss


def nested(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


def engine(folder: str, packed: bool, optim: dict, adapter: str, rank: int):
    adapted = {"lora_adapter_path": adapter, "lora_rank": rank, "lora": {"merge": True}} if adapter else {}
    model = HFModelConfig(
        path=folder,
        **adapted,
        use_remove_padding=packed,
        enable_gradient_checkpointing=False,
        override_config={"attn_implementation": "sdpa"},
    )
    fp32 = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    config = FSDPEngineConfig(strategy="fsdp2", use_torch_compile=False, mixed_precision=fp32, dtype="float32")
    config.use_remove_padding = packed
    ours = {"options": optim, "updates": 2}
    optimizer = FSDPOptimizerConfig(
        optimizer="AdamW",
        optimizer_impl="opd_steps.verl.optimizer",
        lr=optim["lr"],
        weight_decay=optim["weight_decay"],
        betas=tuple(optim["betas"]),
        clip_grad=optim["clip"],
        total_training_steps=2,
        override_optimizer_config=ours,
    )
    made = EngineRegistry.new(
        model_type="language_model",
        backend="fsdp2",
        model_config=model,
        engine_config=config,
        optimizer_config=optimizer,
        checkpoint_config=CheckpointConfig(),
    )
    made.initialize()
    return made


def batch(rows: dict, micro_batch: int, packed: bool, **more) -> TensorDict:
    """This rank's half of the rows, as verl's trainer hands them to it."""
    count, rank, world = len(rows["prompts"]), dist.get_rank(), dist.get_world_size()
    mine = range(rank * count // world, (rank + 1) * count // world)
    take = lambda name: [rows[name][i] for i in mine]
    inputs = [torch.cat([p, r]) for p, r in zip(take("prompts"), take("responses"), strict=True)]
    found = {"input_ids": nested(inputs), "position_ids": nested([torch.arange(len(x)) for x in inputs])}
    found |= {name: (nested if rows[name][0].ndim else torch.stack)(take(name)) for name in rows if name != "prompts"}
    found["prompts"] = nested(take("prompts"))
    found["response_mask"] = nested([torch.ones_like(r) for r in take("responses")])
    found["loss_mask"] = found["response_mask"]
    told = {"distillation_use_topk": True, "distillation_only": True, "global_batch_size": count, "temperature": 1.0}
    told |= {"use_dynamic_bsz": False, "micro_batch_size_per_gpu": micro_batch, "use_remove_padding": packed}
    return tu.get_tensordict(found, told | {"use_fused_kernels": False, "calculate_entropy": False} | more)


def weighed(made, loss: Loss, case: dict) -> dict:
    """The columns that our trainer gives to the workers, after they measured where the method wants that: as verl.trainer does it."""
    ours, found = case["ours"], None
    if any(stream.surveys for stream in loss.streams):
        with made.eval_mode():
            rows = batch(case["rows"], case["micro_batch"], case["packed"], survey=True)
            said = made.infer_batch(rows, loss)["model_output"]
        whole = [None] * dist.get_world_size()
        dist.all_gather_object(whole, {name: value.unbind() for name, value in said.items()})
        joined = {name: nested([row for part in whole for row in part[name]]) for name in said}
        found = columns.surveyed(joined, ours.length_B, len(loss.streams))
    moment = Moment(1, 0, case["window"])
    each, _ = terms_of(loss.streams, loss.method["aggregate"], case["window"], ours, found, moment)
    as_rows = lambda value: list(value.unbind())
    return {name: as_rows(value) for name, value in columns.constants(each, ours.length_B).items()}


def main(cases: Path, out: Path) -> None:
    dist.init_process_group("gloo")
    found = []
    for case in torch.load(cases, weights_only=False):
        beside._loaded.cache_clear()  # those of the last one's optimizer
        made = engine(case["folder"], case["packed"], case["optim"], case["adapter"], case["rank"])
        loss = Loss(case["method"], case["teachers"])
        for _ in range(case["updates"]):
            rows = case["rows"] | weighed(made, loss, case)
            with made.train_mode():
                made.optimizer_zero_grad()
                said = made.train_batch(batch(rows, case["micro_batch"], case["packed"]), loss)
        total = torch.tensor(sum(said["loss"]))
        dist.all_reduce(total, op=dist.ReduceOp.AVG)
        figures = {}
        for name, metric in said["metrics"].items():
            if name.startswith(SUMS):  # verl's own way over ranks: the mean of each rank's sum
                value = torch.tensor(metric.aggregate())
                dist.all_reduce(value, op=dist.ReduceOp.AVG)
                figures[name.removeprefix(SUMS)] = float(value)
        weights = {n.removeprefix(OF_PEFT): p.full_tensor().clone() for n, p in made.module.state_dict().items()}
        found.append({"loss": float(total), "grad_norm": said["metrics"]["grad_norm"], "weights": weights, "figures": figures})
    if dist.get_rank() == 0:
        torch.save(found, out)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
