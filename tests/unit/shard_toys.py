"""Checkpoints that several ranks write and others read.

python -m tests.unit.shard_toys FOLDER write | die | resume | beside      (in each rank)

write   a training that stops after its second step in FOLDER/left, a small checkpoint in FOLDER/small, and what a larger one costs
die     a training in FOLDER/died whose last rank is killed while it writes its second checkpoint
resume  what FOLDER/left3 and FOLDER/died3, copies of these, come to, and FOLDER/small
beside  one checkpoint in FOLDER/once, and the same in FOLDER/beside, written by threads while the weights change
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import Qwen3Config, Qwen3ForCausalLM

from opd_steps.loop import checkpoint, shards
from opd_steps.loop.optim import make_optimizer
from opd_steps.loop.saver import Saver
from opd_steps.process import ranks
from opd_steps.process.launch import failing_together
from tests.unit.hollow_toys import Peak
from tests.unit.opd_toys import Killed
from tests.unit.parallel_toys import sft
from tests.unit.test_train import OPTIM
from tests.unit.tiny import qwen

LARGE = {"vocab_size": 4000, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 8, "head_dim": 64}
LARGE |= {"num_attention_heads": 4, "num_key_value_heads": 4}
State = dict[str, list[dict]]


def updated(model: nn.Module) -> tuple[nn.Module, torch.optim.Optimizer]:
    """After one update by a gradient that each rank knows of its own rows."""
    optimizer = make_optimizer(model, OPTIM)
    for p in model.parameters():
        p.grad = p.detach() * 0.5
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def state(model: nn.Module, found: float) -> State:
    """A moving average of the weights, as a hook has it, and what every rank knows."""
    return {"hooks": [{name: p.detach() * 2 for name, p in model.named_parameters()}, {"rows": torch.tensor([found, 1.0])}]}


def read_small(folder: Path) -> dict[str, torch.Tensor]:
    """All that FOLDER/small holds, whole, by names of its parts and theirs."""
    model, optimizer = updated(ranks.shard(qwen(seed=1)))  # another one
    found = checkpoint.load(folder / "small", {"": (model, optimizer)}, state(model, 0.0))
    made = {f"model/{name}": p for name, p in model.named_parameters()}
    for name, p in model.named_parameters():
        made |= {f"{key}/{name}": value for key, value in optimizer.state[p].items()}
    made |= {f"average/{name}": value for name, value in found["hooks"][0].items()} | found["hooks"][1]
    assert ranks.world() == 1 or all(ranks.is_cut(value) for name, value in made.items() if name.startswith("average"))
    return {name: ranks.full(value.detach()).clone() for name, value in made.items()}


def write(folder: Path) -> dict[str, int]:
    with pytest.raises(Killed):
        sft(folder / "left", kill_at=4)
    ranks.gather((folder / "small").mkdir(exist_ok=True))
    small = updated(ranks.shard(qwen(seed=0)))
    checkpoint.save(folder / "small", 1, {"": small}, state(small[0], torch.nan))

    ranks.gather((folder / "large").mkdir(exist_ok=True))
    model, optimizer = updated(ranks.shard(Qwen3ForCausalLM(Qwen3Config(**LARGE, tie_word_embeddings=False))))
    own = sum(ranks.own_rows(p)[0].numel() * 4 for p in model.parameters())
    with Peak(daemon=True) as saving:
        checkpoint.save(folder / "large", 1, {"": (model, optimizer)}, {})
    optimizer.state.clear()
    with Peak(daemon=True) as loading:
        checkpoint.load(folder / "large", {"": (model, optimizer)})
    return {"weights": own, "saving": saving.most - saving.first, "loading": loading.most - loading.first}


def beside(folder: Path) -> None:
    for name in ("once", "beside"):
        ranks.gather((folder / name).mkdir(exist_ok=True))
        model, optimizer = updated(ranks.shard(qwen(seed=0)))
        saver = Saver(folder / name, name == "beside")
        saver.save(1, {"": (model, optimizer)}, state(model, torch.nan))
        with torch.no_grad():
            for p in model.parameters():
                p.add_(1.0)
        while saver.pending:
            saver.settle()
        assert checkpoint.newest(folder / name).name == "checkpoint-00000001"


def die(folder: Path) -> None:
    real = shards.write

    def dying(scratch: Path, part: str, tensors: dict) -> None:
        real(scratch, part, tensors)
        if part == "model" and not ranks.first() and checkpoint.newest(scratch.parent):
            os.kill(os.getpid(), signal.SIGKILL)

    shards.write = dying
    sft(folder / "died")


def resume(folder: Path) -> None:
    found = {name: sft(folder / name) for name in ("left3", "died3")} | {"small3": read_small(folder)}
    for name, tensors in found.items():
        if ranks.first():
            save_file(tensors, folder / f"{name}.safetensors")


if __name__ == "__main__":
    with failing_together():
        ranks.join()
        told = {"write": write, "die": die, "resume": resume, "beside": beside}[sys.argv[2]](Path(sys.argv[1]))
        if told:
            (Path(sys.argv[1]) / f"rank{ranks.rank()}.json").write_text(json.dumps(told))
        ranks.leave()
