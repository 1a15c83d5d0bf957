"""Checkpoints that are none, that are unsafe, or that do not fit: refused in one line, before anything is trained."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from opd_steps.errors import UserError
from opd_steps.graph import agreement
from opd_steps.models.folder import load_model
from opd_steps.models.tokenizers import char_tokenizer
from opd_steps.store.files import write_json
from tests.pipeline.checkout import ROOT, Checkout
from tests.pipeline.spoiled import GENERATION, REFUSED, edit_weights, nan, pickle_only
from tests.pipeline.stages import TINY, Stages, edit_json, save_checkpoint

pytestmark = pytest.mark.usefixtures("own_signals")

SUMS = {"source": {"name": "arithmetic", "train": 60, "test": 8, "ood": 0}, "verifier": {"name": "exact", "after": "="}}
SHORT = {"max_new_tokens": 8}
PICKLES = ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "rng_state.pth", "state.pkl", "vocab.pkl", "model.ckpt")


class Bomb:
    """A pickle that leaves a file behind when it is loaded."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def plant(folder: Path, mark: Path) -> None:
    for name in PICKLES:
        (folder / name).write_bytes(pickle.dumps(Bomb(mark)))


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("good") / "checkpoint", vocab_size=300, num_hidden_layers=2)


@pytest.fixture
def checkpoint(good, tmp_path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "checkpoint"))


@pytest.fixture
def stages(tmp_path) -> Stages:
    return Stages(tmp_path / "results")


def test_the_bomb_would_go_off(tmp_path):
    plant(tmp_path, tmp_path / "fired")
    pickle.loads((tmp_path / PICKLES[0]).read_bytes())
    assert (tmp_path / "fired").is_dir()


@pytest.mark.parametrize("fault", REFUSED)
def test_what_is_no_checkpoint(stages, checkpoint, fault):
    spoil, says = REFUSED[fault]
    mark = checkpoint / "fired"
    plant(checkpoint, mark)
    spoil(checkpoint)
    with pytest.raises(UserError, match=says) as caught:
        stages.run("m", "model", path=str(checkpoint))
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    assert not (stages.results / "p/model/m/seed0").exists()


@pytest.mark.parametrize("path", ["x" * 300, "a/" + "b" * 300, "~nobody-at-all/x", "a\0b", "/nowhere", "a b/c"])
def test_paths_that_cannot_be(stages, path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="no such"):
        stages.run("m", "model", path=path)
    with pytest.raises(UserError, match="no such data"):
        stages.run("d", "data", source={"name": "jsonl", "path": path})


def test_a_file_that_goes_away_while_it_is_read(stages, checkpoint, monkeypatch):
    def gone(*_):
        raise FileNotFoundError(2, "No such file or directory", f"{checkpoint}/x")

    monkeypatch.setattr("opd_steps.store.artifacts.hashes", gone)
    with pytest.raises(UserError, match=f"^{checkpoint}/x: cannot be read: No such file"):
        stages.run("m", "model", path=str(checkpoint))


def test_a_fresh_encoder_is_refused(stages):
    with pytest.raises(UserError, match=r"^architecture: a bert model is a causal language model with is_decoder: true alone"):
        stages.run("m", "model", architecture="bert", tokenizer="byte")
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    stages.run("m", "model", architecture="bert", config=small | {"is_decoder": True}, tokenizer="byte")


def harmless(weights: dict) -> None:
    """What old releases wrote, and what some write twice."""
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    weights["model.layers.0.self_attn.masked_bias"] = torch.tensor(-1e4)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()


def test_what_is_harmless_and_a_generation_config_that_could_not_be_saved(stages, checkpoint, capsys):
    """transformers loads sampling settings that it refuses to write: a training would end with a ValueError at its very last line."""
    stages.run("data", "data", **SUMS)
    edit_weights(checkpoint, harmless)
    edit_json(checkpoint / GENERATION, temperature=0.5, do_sample=False, eos_token_id=[1, 3])
    stages.run("m", "model", path=str(checkpoint))
    assert "its generation config cannot be saved, its token ids are kept alone" in capsys.readouterr().out
    stages.run("more", "sft", {"student": "model/m", "data": "data/data"}, steps=1, batch=4)
    saved = json.loads((stages.results / "p/sft/more/seed0/model" / GENERATION).read_text())
    assert saved["eos_token_id"] == [1, 3] and "temperature" not in saved


def test_weights_that_are_spoiled_after_they_were_judged(stages, checkpoint):
    """Loading looks once more: a model node of before this check existed, or another program's."""
    stages.run("m", "model", path=str(checkpoint))
    edit_weights(checkpoint, nan)
    with pytest.raises(UserError, match=r"model: the weight model\.layers\.1\.mlp\.up_proj\.weight is not finite"):
        load_model(wrapped(stages.results / "loose", checkpoint))


def wrapped(folder: Path, checkpoint: Path) -> Path:
    """A node's folder around a checkpoint."""
    folder.mkdir(parents=True)
    (folder / "model").symlink_to(checkpoint)
    return folder


def test_the_step_itself_ends_with_one_line_and_status_2(stages, checkpoint):
    pickle_only(checkpoint)
    plant(checkpoint, checkpoint / "fired")
    config, out = stages.job("m", "model", {}, path=str(checkpoint))
    command = [sys.executable, "-m", "opd_steps.steps.model", "--config", json.dumps(config), "--out", str(out)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1 and run.stderr.startswith(f"distillery: error: {checkpoint}: not a checkpoint")
    assert not (checkpoint / "fired").exists()


def test_pickles_beside_good_weights_are_never_loaded(stages, checkpoint):
    """In the checkpoint, and in the work directory's checkpoint that a job goes on from."""
    mark = checkpoint / "fired"
    plant(checkpoint, mark)
    parents = {"student": "model/m", "data": "data/data"}
    options = {"steps": 4, "batch": 4, "checkpoint_every": 2}
    stages.run("data", "data", **SUMS)
    stages.run("m", "model", path=str(checkpoint))
    whole = stages.run("whole", "sft", parents, **options)
    config, out = stages.job("resumed", "sft", parents, **options)
    broken = killed_after(config, out, step=2)
    plant(broken, mark)
    plant(broken.parent, mark)
    resumed = stages.run("resumed", "sft", parents, **options)
    stages.run("sampled", "rollout", {"policy": "sft/resumed", "data": "data/data"}, limit=4, sampling=SHORT)
    assert not mark.exists()
    assert resumed["files"] == whole["files"]


def killed_after(config: dict, out: Path, step: int) -> Path:
    """Train up to a checkpoint and stop, as a kill would; returns the checkpoint in the work directory."""
    from opd_steps.loop import checkpoint
    from opd_steps.store.artifacts import Job

    module = importlib.import_module(f"opd_steps.steps.{config['kind']}")
    real = checkpoint.save

    def dying(work, at, *args):
        real(work, at, *args)
        if at == step:
            raise KeyboardInterrupt

    checkpoint.save = dying
    try:
        with pytest.raises(KeyboardInterrupt), Job(config, {}, out) as job:
            module.run(job)
    finally:
        checkpoint.save = real
    return job.work / f"checkpoint-{step:08d}"


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_of_a_killed_job(stages, good, file):
    options = {"steps": 4, "batch": 4, "checkpoint_every": 2}
    parents = {"student": "model/m", "data": "data/data"}
    stages.run("data", "data", **SUMS)
    stages.run("m", "model", path=str(good))
    folder = killed_after(*stages.job("s", "sft", parents, **options), step=2)
    (folder / file).write_bytes((folder / file).read_bytes()[:-5])
    with pytest.raises(UserError, match=f"{folder.name}: this checkpoint is damaged .*; delete it and run again"):
        stages.run("s", "sft", parents, **options)
    shutil.rmtree(folder)
    stages.run("s", "sft", parents, **options)


def test_linked_weights_that_changed(stages, checkpoint):
    """One byte, size and time kept: no job goes on with other weights than those that were recorded."""
    stages.run("data", "data", **SUMS)
    stages.run("m", "model", path=str(checkpoint))
    weights = checkpoint / "model.safetensors"
    data, stat = weights.read_bytes(), weights.stat()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(UserError, match=r"model\.safetensors: changed since .*; delete .*manifest\.json, run again"):
        stages.run("more", "sft", {"student": "model/m", "data": "data/data"}, steps=1)


def two_models(teacher: dict, start: str) -> dict:
    """A paper that distils `teacher` into an SFT of the model `start`."""
    nodes = {
        "teacher": {"kind": "model", **teacher},
        "student": {"kind": "sft", "student": start, "data": "data", "steps": 1, "batch": 4},
        "opd": {"kind": "opd", "student": "student", "teacher": "teacher", "data": "data", "steps": 1, "prompts": 2},
    }
    return {"paper": {"title": "Two models"}, "use": "shared", "nodes": nodes}


def spoiled(tmp_path: Path, name: str, **settings: str) -> dict:
    """A teacher with the byte tokenizer, but one setting."""
    folder = save_checkpoint(tmp_path / name, vocab_size=300)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for key, value in settings.items():
        setattr(tokenizer, key, value)
    tokenizer.save_pretrained(folder)
    return {"path": str(folder)}


def test_tokenizers_that_do_not_fit_stop_a_run_before_any_training(tmp_path, good):
    """Four papers in one run; each is stopped by its own preflight, but for the one whose vocabulary is merely padded."""
    checkout = Checkout(tmp_path / "checkout")
    letters = save_checkpoint(tmp_path / "letters", tokenizer=char_tokenizer("abc=+;0123456789"))
    nodes = {
        "data": {"kind": "data", "seed": 0, **SUMS},
        "chars": {"kind": "model", "data": "data", "config": TINY},
        "bytes": {"kind": "model", "path": str(good)},
    }
    papers = {
        "alphabet": ("chars", {"path": str(letters)}, "different tokenizers"),
        "end": ("bytes", spoiled(tmp_path, "end", eos_token="<|im_end|>"), "different end tokens: 1 and 3"),
        "template": ("bytes", spoiled(tmp_path, "template", chat_template="{{ messages }}"), "different chat templates"),
        "padded": ("bytes", {"path": str(save_checkpoint(tmp_path / "wide", seed=1, vocab_size=1000))}, ""),
    }
    write = lambda name, paper: write_json(checkout.folder / f"workflow/papers/{name}.yaml", paper)  # JSON is YAML
    write("shared", {"paper": {"title": "Shared"}, "nodes": nodes})
    for name, (start, teacher, _) in papers.items():
        write(name, two_models(teacher, start))
    run = checkout.snakemake("students", "--config", f"papers=[{','.join(papers)}]", check=False)
    assert run.returncode == 1
    lines = {line.strip() for line in run.stdout.splitlines() if "distillery: error:" in line}
    for name, (start, _, says) in papers.items():
        found = [line for line in lines if f" shared/model/{start}/seed0 and {name}/model/teacher/seed0 have " in line]
        assert len(found) == bool(says), run.stdout[-4000:]
        assert all(line.startswith("distillery: error: node opd: ") and says in line for line in found)
        trained = [p.name for kind in ("sft", "opd") for p in (checkout.folder / f"results/{name}").glob(f"{kind}/*/seed0")]
        assert sorted(trained) == ([] if says else ["seed0", "seed0"]), name
    assert len(lines) == 3 and "Traceback" not in run.stdout
    assert {p.name for p in (checkout.folder / "results/.work").glob("*")} == set()


def test_preflight_reads_what_models_recorded(stages, tmp_path, good):
    stages.run("a", "model", path=str(good))
    stages.run("b", "model", **spoiled(tmp_path, "pad", pad_token="<|im_end|>"))
    pair = {"node": "opd", "left": "p/model/a/seed0", "right": "p/model/b/seed0"}
    with pytest.raises(UserError, match="node opd: p/model/a/seed0 and p/model/b/seed0 have different tokenizers"):
        agreement.check_pairs(stages.results, [pair])


def test_teacher_consistency(stages, tmp_path, good, capsys):
    """Lightning OPD: the scores must come from the teacher that wrote the student's SFT traces, or the user says otherwise."""
    teacher, stranger = (str(save_checkpoint(tmp_path / f"t{seed}", seed=seed, vocab_size=300)) for seed in (1, 2))
    stages.run("data", "data", **SUMS)
    for name, path in {"init": str(good), "teacher": teacher, "same": teacher, "stranger": stranger}.items():
        stages.run(name, "model", path=path)
    stages.run("traces", "rollout", {"policy": "model/teacher", "data": "data/data"}, limit=8, sampling=SHORT)
    stages.run("student", "sft", {"student": "model/init", "data": "rollout/traces"}, steps=1, batch=4)
    stages.run("rollouts", "rollout", {"policy": "sft/student", "data": "data/data"}, limit=8, sampling=SHORT)
    for name in ("same", "stranger"):
        stages.run(name, "score", {"rollouts": "rollout/rollouts", "teacher": f"model/{name}"})

    def distil(name: str, scores: str, student: str = "sft/student", **options) -> dict:
        parents = {"student": student, "scores": f"score/{scores}", "data": "data/data"}
        return stages.run(name, "opd", parents, steps=1, prompts=4, sampling=SHORT, **options)

    with pytest.raises(UserError, match=r"SFT traces come from another teacher .*set teacher_consistency: warn"):
        distil("stopped", "stranger")
    assert not (stages.results / "p/opd/stopped/seed0").exists()
    with pytest.raises(UserError, match="or from none"):
        distil("untaught", "same", student="model/init")
    capsys.readouterr()
    assert distil("warned", "stranger", teacher_consistency="warn")["metrics"]
    assert capsys.readouterr().err.splitlines() == [
        "warning: the student's SFT traces come from another teacher than the scores (or from none)"
    ]
    distil("consistent", "same")
    assert "warning" not in capsys.readouterr().err
