"""Steps run one by one in this process, as their rules would run them, and small checkpoints to run them on."""

from __future__ import annotations

import copy
import importlib
import json
from functools import reduce
from pathlib import Path

from opd_steps.config.merge import merge
from opd_steps.graph.kinds import KINDS
from opd_steps.models.folder import save_model, where
from opd_steps.models.fresh import fresh_model
from opd_steps.models.tokenizers import byte_tokenizer
from opd_steps.process import ranks
from opd_steps.store.artifacts import Job, read_manifest

TINY = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}


def save_checkpoint(folder: Path, seed: int = 0, tokenizer=None, **config) -> Path:
    """A Qwen3 with the byte-level tokenizer in the HF format."""
    tokenizer = tokenizer or byte_tokenizer()
    save_model(fresh_model("qwen3", TINY | config, tokenizer, seed), tokenizer, folder)
    return folder


def edit_json(file: Path, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


class Stages:
    """Nodes of paper "p" below `results`."""

    def __init__(self, results: Path):
        self.results = results

    def job(self, name: str, kind: str, parents: dict[str, str], seed: int = 0, **options) -> tuple[dict, Path]:
        """(the job's config, its manifest's path); `parents`: role -> "kind/name" of seed 0, or "kind/name/seed<k>"."""
        options = copy.deepcopy(options)
        for role, parent in parents.items():  # a dotted role stands inside the options
            *path, key = role.split(".")
            reduce(lambda tree, step: tree.setdefault(step, {}), path, options)[key] = parent
        checked = merge(KINDS[kind], {"kind": kind, **options}, name)
        for role in parents:
            *path, key = role.split(".")
            reduce(dict.__getitem__, path, checked).pop(key)
        options = {k: v for k, v in checked.items() if k not in {"kind", "seed", "resources"}}
        paths = {role: f"p/{parent}" + ("" if parent.count("/") == 2 else "/seed0") for role, parent in parents.items()}
        config = {"kind": kind, "options": options, "parents": paths, "seed": seed}
        return config, self.results / f"p/{kind}/{name}/seed{seed}/manifest.json"

    def run(self, name: str, kind: str, parents: dict[str, str] | None = None, seed: int = 0, **options) -> dict:
        """Run the step and return its manifest. Raises what the step raises."""
        config, out = self.job(name, kind, parents or {}, seed, **options)
        module = importlib.import_module(f"opd_steps.steps.{kind}")
        step = getattr(module, "run", None) or getattr(module, kind)
        where.cache_clear()  # each step is a process of its own
        with Job(config, {}, out, KINDS[kind].sources(config["options"]), writes=ranks.first()) as job:
            step(job)
        ranks.gather(None)  # published by the first
        return read_manifest(out.parent)
