"""Several processes that train as one: each holds a shard of every weight and works on its share of the rows.

Every rank knows the whole batch, and takes every decision by itself from the same numbers. All of torch.distributed is here; with one
process each function hands back what it was given. All ranks must call them in the same order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from opd_steps.errors import UserError
from opd_steps.process.launch import world_size

PATIENCE = timedelta(
    hours=2
)  # others wait while the first one writes the model; a death ends all at once (opd_steps.process.launch)


def join() -> None:
    """Become a rank, if opd_steps.process.launch or torchrun started this process as one: NCCL where there are GPUs, else gloo."""
    if (count := world_size()) == 1:
        return
    backend = "gloo"
    if torch.cuda.is_available():
        if (found := torch.cuda.device_count()) < int(os.environ.get("LOCAL_WORLD_SIZE", count)):
            raise UserError("resources.processes", f"{count} processes need a GPU each, this job sees {found}")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=PATIENCE)


def leave() -> None:
    """Wait for all ranks to be done."""
    if world() > 1:
        gather(None)
        dist.destroy_process_group()


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def first() -> bool:
    """Is this the rank that writes files?"""
    return rank() == 0


# ---- what is measured


def gather(mine: object) -> list:
    """What every rank brings, in their order."""
    if world() == 1:
        return [mine]
    found: list = [None] * world()
    dist.all_gather_object(found, mine)
    return found


def combined(mine: dict[str, float], how: Callable[[Iterable[float]], float]) -> dict[str, float]:
    """Figures of all ranks by name, `how` = sum or max of those that have one; the same bits on every rank."""
    parts = gather(mine)
    if len(parts) == 1:
        return mine
    return {name: how([p[name] for p in parts if name in p]) for name in dict.fromkeys(n for p in parts for n in p)}


# ---- rows


def share(count: int) -> range:
    """Which of `count` things this rank makes; neighbours go to different ranks, as they take like times."""
    return range(rank(), count, world())


def collect(made: Sequence) -> list:
    """The things of all ranks' shares, in order."""
    parts = gather(list(made))
    return [parts[i % world()][i // world()] for i in range(sum(map(len, parts)))]


def micro_batches(rows: int, size: int) -> list[slice]:
    """This rank's rows of a batch, at most `size` at a time; ranks in order make the whole batch in order.

    As many slices on every rank, for each costs all of them a forward and a backward pass: a last one may be empty.
    """
    bound = lambda rank: -(-rows * rank // world())  # where some have one row more, these are the first ranks
    low, high, longest = bound(rank()), bound(rank() + 1), bound(1)
    return [slice(min(i, high), min(i + size, high)) for i in range(low, low + longest, size)]


# ---- weights


def device() -> str:
    """Where models are: the GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def shard(model: nn.Module, compute: torch.dtype = torch.float32) -> nn.Module:
    """FSDP2 on every block that reads text, or of a model of other things on every block, and on the rest of it; gradients are summed over
    ranks, in fp32. `compute`: dtype in which a rank gets the weights that it does not hold. Blocks that see are of the rest: one rank's
    rows may hold pictures and another's videos, and each goes through them by itself. What is no text is given in its own dtypes."""
    if world() == 1:
        return model
    reads, mesh = hasattr(model, "get_decoder"), init_device_mesh(device(), (world(),))
    policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32, cast_forward_inputs=reads)
    for block in blocks(model.get_decoder() if reads else model):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    for part in _parts(model):
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    model.set_reduce_scatter_unused_params(True)  # an expert that no token of this rank went to
    _set_reshard(model)
    if reads:  # the hooks of the root stand around its forward methods; the loop asks for hidden states, not for logits
        model.hidden_states = partial(_hidden_states, model)
        register_fsdp_forward_method(model, "hidden_states")
    return model


def blocks(model: nn.Module) -> list[nn.Module]:
    """The model's equal parts, its `_no_split_modules`."""
    names = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def is_sharded(model: nn.Module) -> bool:
    return isinstance(model, FSDPModule)


def hidden_states(model: nn.Module, tokens_BL: Tensor, layers: Iterable[int] = (), **how) -> tuple[Tensor, dict[int, Tensor]]:
    """Last hidden states [B, L, D] of a transformers model, and those of `layers` (0: the embedding); `how`: of its forward pass. Where
    it trains, its head is whole from here to the backward pass."""
    ask = model.hidden_states if isinstance(model, FSDPModule) else partial(_hidden_states, model)
    return ask(tokens_BL, layers, **how)


def _hidden_states(model: nn.Module, tokens_BL: Tensor, layers: Iterable[int], **how) -> tuple[Tensor, dict[int, Tensor]]:
    how |= {"output_hidden_states": True} if layers else {}
    base = model.base_model
    ask = base.forward if base is model else base  # inside its hooks already
    found = ask(input_ids=tokens_BL, use_cache=False, **how)
    return found.last_hidden_state, {layer: found.hidden_states[layer] for layer in layers}


@contextmanager
def whole(*models: nn.Module):
    """Meanwhile each rank holds all weights of the models, and may run them as often as it likes: for rollouts."""
    sharded = [m for m in models if isinstance(m, FSDPModule)]
    for model in sharded:
        model.set_reshard_after_forward(False)
        for part in _parts(model):
            part.unshard()
    try:
        yield
    finally:
        for model in sharded:
            for part in _parts(model):
                part.reshard()
            _set_reshard(model)


@contextmanager
def letting_go(model: nn.Module):
    """Afterwards each rank holds its own part of all weights alone, for no backward pass comes that would see to it."""
    try:
        yield
    finally:
        for part in _parts(model):
            part.reshard()


def _parts(model: nn.Module) -> list[FSDPModule]:
    return [m for m in model.modules() if isinstance(m, FSDPModule)]


def _set_reshard(model: FSDPModule) -> None:
    """Blocks let go of their weights after each forward; so does the rest of a frozen model, which no backward pass would free."""
    model.set_reshard_after_forward(True)
    model.set_reshard_after_forward(not any(p.requires_grad for p in model.parameters()), recurse=False)


def full(tensor: Tensor) -> Tensor:
    """All of a tensor, on every rank."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def version(tensor: Tensor) -> int:
    """How often it was changed in place."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor)._version


def cut_like(value: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a whole tensor, on the device and cut as `like` is; of one that is cut already that."""
    value = value.to(like.device)
    if not isinstance(like, DTensor) or isinstance(value, DTensor):
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def part_like(own: Tensor, like: Tensor) -> Tensor:
    """This rank's rows as its part of a whole tensor that is cut as `like` is."""
    if not isinstance(like, DTensor):
        return own
    how = {"run_check": False, "shape": like.shape, "stride": like.stride()}
    return DTensor.from_local(own, like.device_mesh, like.placements, **how)


def is_cut(tensor: Tensor) -> bool:
    """Whether each rank holds some rows of it alone."""
    return isinstance(tensor, DTensor)


def own_rows(tensor: Tensor) -> tuple[Tensor, int]:
    """This rank's rows of a tensor, perhaps none, and the number of the first; of one that is not cut all of it."""
    if not isinstance(tensor, DTensor):
        return tensor.detach(), 0
    size = -(-len(tensor) // world())  # as FSDP2 cuts: the last ranks may have less, or nothing
    return tensor.detach().to_local(), min(rank() * size, len(tensor))


def read_part(into: Tensor, stored) -> None:
    """Fill this rank's part of a tensor from a slice of a safetensors file, of which no more is read."""
    mine, low = own_rows(into)
    mine.copy_(stored[low : low + len(mine)] if is_cut(into) else stored[:])


def for_writing(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, those of a sharded model whole and on the CPU; of several ranks only the first gets any."""
    if world() == 1:
        return tensors
    found, done = {}, {}  # tied weights stay one tensor
    for name, tensor in tensors.items():
        if id(tensor) not in done:
            value = full(tensor.detach())
            done[id(tensor)] = value.cpu() if first() else None
        found[name] = done[id(tensor)]
    return found if first() else {}
