"""The step `opd` as a paper runs it: on tiny nodes that the real steps made, in a folder of results, to a published model."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file
from torch import Tensor

from opd_steps.config.merge import merge
from opd_steps.graph.kinds.opd import OpdNode
from opd_steps.loop.guard import Guard
from opd_steps.process import lifetime, ranks
from opd_steps.store.artifacts import read_manifest, sealed
from opd_steps.store.files import write_json
from opd_steps.teachers.view import View
from tests.pipeline.stages import Stages

SEED, NODE = 3, "p/opd/toy/seed3"
SEEDS = {"student": 0, "teacher": 1, "reference": 2, "end": 5}
ROWS = [
    "ab a",
    "bc7 bb",
    "c c",
    "da ad",
    "a7b ",
    "bd d",
    "cab c",
    "db7 a",
    "e be",
]  # prompt, and what its solution says before a 7
SHAPE = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
PARENTS = {"data": "data/data"} | {role: f"model/{role}/seed{SEEDS[role]}" for role in ("student", "teacher", "reference")}
"""What a run reads; beside them stand `model/end`, `model/untied` (another student, seed 0), `model/wide` (24 instead of 16, three
layers instead of one, seed 4) and `model/hollow`."""


class Killed(BaseException):
    """The process is gone."""


def make(folder: Path) -> Path:
    """Prompts and models below `folder`. An answer is right when its last number is 7; random ones are so one time in five."""
    folder.mkdir(parents=True)
    texts = [dict(zip(("prompt", "solution"), row.split(" "), strict=True), answer="7") for row in ROWS]
    lines = [json.dumps(row | {"solution": f"{row['solution']}7"}) for row in texts]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    stages, source = Stages(folder), {"name": "jsonl", "path": str(folder / "rows.jsonl"), "solution": "solution", "test": 2}
    stages.run("data", "data", source=source, verifier="numeric", hints="marks")
    for name, seed in SEEDS.items():
        stages.run(name, "model", {"data": "data/data"}, seed, config=SHAPE | {"tie_word_embeddings": True})
    stages.run("untied", "model", {"data": "data/data"}, config=SHAPE | {"tie_word_embeddings": False})
    stages.run("wide", "model", {"data": "data/data"}, 4, config=SHAPE | {"hidden_size": 24, "num_hidden_layers": 3})
    _hollow(folder)
    return folder


def _hollow(folder: Path) -> None:
    """A published model whose weights cannot be read: whoever loads it fails."""
    hollow = Path(shutil.copytree(folder / "p/model/reference", folder / "p/model/hollow")) / f"seed{SEEDS['reference']}"
    manifest = {key: value for key, value in read_manifest(hollow).items() if key != "sha256"}
    name = next(name for name in manifest["files"] if name.endswith(".safetensors"))
    (hollow / name).write_bytes(b"")
    manifest["files"][name] = {"bytes": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
    write_json(hollow / "manifest.json", sealed(manifest))


@cache
def nodes() -> Path:
    """They are made once in a process."""
    folder = Path(tempfile.mkdtemp(prefix="opd_toys_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make(folder / "results")


def small(**changes) -> dict:
    """Options of a small run with these changes, as a user writes them."""
    options = {"steps": 8, "prompts": 3, "micro_batch": 4, "checkpoint_every": 2, "optim": {"lr": 0.01}}
    return options | {"sampling": {"n": 2, "max_new_tokens": 4} | changes.pop("sampling", {})} | changes


def node(**changes) -> dict:
    """Checked options of an opd node, small."""
    return merge(OpdNode, {"kind": "opd", **PARENTS, **small(**changes)}, "toy")


def run(
    folder: Path,
    kill_at: int = 0,
    stop_at: int = 0,
    parents: dict | None = None,
    made: Path | None = None,
    **changes,
) -> SimpleNamespace:
    """Run the node in a folder of results; again, it goes on from its checkpoint.

    kill_at   the process is gone when this step begins
    stop_at   it is told to stop while it waits for a teacher in this step
    parents   roles that are read beside, or in place of, PARENTS; of None, not
    made      the nodes to read, else those of this process

    Returns the published weights, metrics.jsonl, tokens.jsonl and manifest.
    """
    kinds = (made or nodes()) / "p"
    if ranks.first():
        (folder / "p").mkdir(parents=True, exist_ok=True)
        for kind in kinds.iterdir():
            if not (folder / "p" / kind.name).is_symlink():
                (folder / "p" / kind.name).symlink_to(kind)
    ranks.gather(None)
    roles = {role: parent for role, parent in (PARENTS | (parents or {})).items() if parent}
    with faults(kill_at, stop_at):
        manifest = Stages(folder).run("toy", "opd", roles, SEED, **small(**changes))
    published = folder / NODE
    return SimpleNamespace(
        weights=read_weights(published),
        metrics=(published / "metrics.jsonl").read_bytes(),
        tokens=(published / "tokens.jsonl").read_bytes(),
        manifest=manifest,
    )


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The published weights: of the model, or of the adapter alone."""
    (file,) = [file for name in ("model/model", "adapter/adapter_model") if (file := folder / f"{name}.safetensors").exists()]
    return load_file(file)


def work(folder: Path) -> Path:
    """Where the run in `folder`, which has not published, keeps what it has."""
    (found,) = (folder / ".work").glob("p.opd.toy.*")
    return found


def curve(metrics: bytes, name: str) -> list[float]:
    return [row[f"train/{name}"] for row in map(json.loads, metrics.splitlines()) if f"train/{name}" in row]


@contextmanager
def faults(kill_at: int = 0, stop_at: int = 0, begun: list[int] | None = None) -> Iterator[None]:
    """Death and signals at a step. `begun`: the steps that begin, as they do."""
    begun = [] if begun is None else begun
    watch, prepare = Guard.watch, View.prepare

    def watched(self, step: int):
        begun.append(step)
        if step == kill_at:
            raise Killed
        return watch(self, step)

    def prepared(self, rows):
        if begun[-1:] == [stop_at]:
            os.kill(os.getpid(), signal.SIGTERM)
            with lifetime.until_stopped():
                pass
        return prepare(self, rows)

    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lifetime, "_flag", None)  # a training leaves its own behind
        patch.setattr(Guard, "watch", watched)
        patch.setattr(View, "prepare", prepared)
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)
