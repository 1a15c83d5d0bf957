"""The step `opd` on tiny models and made-up prompts: its own wiring and its own loop; files and tokenizers stand aside."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch

from opd_steps.config.merge import merge
from opd_steps.graph.kinds.opd import OpdNode
from opd_steps.loop.train import train
from opd_steps.models.families.causal_lm import CausalLM
from opd_steps.models.lm_policy import LMPolicy
from opd_steps.nouns.task import Pool
from opd_steps.nouns.trajectory import Trajectory
from opd_steps.process import ranks
from opd_steps.process.lifetime import Stopped
from opd_steps.seeds import rng
from opd_steps.steps import opd
from tests.unit.tiny import FakeTokenizer, qwen

VOCAB, SEED = 20, 3
SEEDS = {"student": 0, "teacher": 1, "reference": 2}


class Killed(Exception):
    pass


class ToyFamily(CausalLM):
    """The finished models of a node: another run ended elsewhere."""

    def weights(self, folder: Path) -> dict[str, torch.Tensor]:
        return dict(qwen(VOCAB, 5 if folder.name == "end" else 0, layers=1).named_parameters())


class ToyPool(Pool):
    """Prompt i is a few token ids; an answer is right when the sum of its tokens is even."""

    def __init__(self, size: int = 7):
        self.size = size

    def __len__(self) -> int:
        return self.size

    def contexts(self, picks) -> list[list[int]]:
        return [[1 + i % 3, 2, 3 + i][: 2 + i % 2] for i in picks]

    def rewards(self, rows: Trajectory) -> list[float]:
        return [float(int(a.sum()) % 2 == 0) for a in rows.actions]

    def written(self, column: str, loss_on: str = "response", corpus: bool = False) -> Trajectory:
        return solutions()


def solutions(rows: int = 9) -> Trajectory:
    """Rows of a data set: nobody sampled them."""
    actions = [torch.from_numpy(rng("solutions", i).integers(1, VOCAB - 2, 2 + i % 3)) for i in range(rows)]
    return Trajectory(ToyPool(rows).contexts(range(rows)), actions, torch.arange(rows))


def node(**changes) -> dict:
    """Checked options of an opd node, small."""
    small = {"steps": 8, "prompts": 3, "micro_batch": 4, "checkpoint_every": 2, "optim": {"lr": 0.01}}
    named = {"kind": "opd", "student": "s", "data": "d", "teacher": "t", "reference": "r"}
    sampling = {"sampling": {"n": 2, "max_new_tokens": 4} | changes.pop("sampling", {})}
    return merge(OpdNode, named | small | sampling | changes, "toy")


def run(
    folder: Path, patch, kill_at: int = 0, parents: dict | None = None, tie: bool = True, stop_at: int = 0, **changes
) -> SimpleNamespace:
    """Run the node in `folder`; `patch`: pytest's monkeypatch; `kill_at`: die while making the batch of that step; `stop_at`: be told to
    stop while a teacher is waited for in it.

    Returns the student's weights, the models that were loaded, and the bytes of metrics.jsonl.
    """
    folder.mkdir(exist_ok=True)
    loaded: dict[str, LMPolicy] = {}

    def load(job, role, sampling=None, batch=256, train=False) -> LMPolicy:
        model = ranks.shard(qwen(VOCAB, SEEDS[role], tie, layers=1).requires_grad_(train))
        how = {key: sampling[key] for key in ("temperature", "top_p", "max_new_tokens")}
        loaded[role] = LMPolicy(model if train else model.eval(), FakeTokenizer(VOCAB), family=ToyFamily(), **how)
        return loaded[role]

    def fragile(job, student, make_batch, *args, **more):
        def make(step: int):
            if step == kill_at:
                raise Killed
            batch = make_batch(step)
            if step == stop_at:
                raise Stopped
            return batch

        return train(job, student, make, *args, **more)

    patch.setattr(opd, "load_policy", load)
    patch.setattr(opd, "train", fragile)
    patch.setattr(opd, "require_same", lambda *_: None)
    patch.setattr(opd, "publish_model", lambda *_: None)
    patch.setattr(opd, "weights_id", lambda manifest: "")
    patch.setattr(opd, "load_pool", lambda *_: ToyPool())
    roles = dict.fromkeys(("student", "teacher", "reference", "data"), folder) | (parents or {})
    job = SimpleNamespace(
        options=node(**changes),
        parents=roles,
        path=roles.get,
        work=folder,
        seed=SEED,
        name="p/opd/toy/seed3",
        note=print,
        manifests={"student": {"facts": {}}, "teacher": {"facts": {}}},
    )
    opd.run(job)
    weights = {name: ranks.full(p.detach()).clone() for name, p in loaded["student"].model.named_parameters()}
    return SimpleNamespace(weights=weights, loaded=loaded, metrics=(folder / "metrics.jsonl").read_bytes())
