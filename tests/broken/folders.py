"""Broken checkpoints, and what the model step makes of them; what it takes must load, speak and be saved."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hypothesis import strategies as st

from opd_steps.config.merge import merge
from opd_steps.errors import UserError
from opd_steps.graph.kinds import KINDS
from tests.broken.outcome import Outcome, outcome
from tests.broken.values import ODD, ODD_TEXTS, replaced, spoiled
from tests.pipeline.stages import save_checkpoint

FIELDS = [
    *(("tokenizer_config.json", f"{name}_token") for name in ("bos", "eos", "pad", "unk")),
    *(("tokenizer_config.json", name) for name in ("extra_special_tokens", "additional_special_tokens", "model_input_names")),
    *(("tokenizer_config.json", name) for name in ("model_max_length", "tokenizer_class", "chat_template", "auto_map")),
    *(("tokenizer_config.json", name) for name in ("added_tokens_decoder", "padding_side", "truncation_side", "add_bos_token")),
    *(("generation_config.json", name) for name in ("eos_token_id", "pad_token_id", "temperature", "do_sample", "max_length")),
    *(("config.json", name) for name in ("rope_scaling", "rope_parameters", "quantization_config", "auto_map", "dtype")),
    *(("config.json", name) for name in ("text_config", "sliding_window", "is_decoder", "layer_types", "attention_dropout")),
    *(("special_tokens_map.json", name) for name in ("eos_token", "pad_token", "x")),
    ("model.safetensors.index.json", "weight_map"),
    ("added_tokens.json", "x"),
]
"""Fields that checkpoints have, and ours may not."""
JSONS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Checkpoint:
    """What is done to a good checkpoint: `content` for a file of it, or `how`: gone, a folder in its place, a link to itself, empty."""

    what: str
    file: str = ""
    content: bytes | None = None
    how: str = ""
    path: str = ""  # what the node names in the checkpoint's place


@cache
def good() -> Path:
    """A checkpoint as others write them, in memory's file system where there is one; one for the whole process."""
    folder = Path(tempfile.mkdtemp(prefix="checkpoint-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return save_checkpoint(folder / "good", vocab_size=300)


def text(file: str) -> str:
    return (good() / file).read_text() if (good() / file).exists() else "{}"


@st.composite
def _checkpoints(draw) -> Checkpoint:
    how = draw(st.sampled_from(["value", "value", "value", "field", "key", "text", "file", "weights"]))
    if how == "file":
        file = draw(st.sampled_from([*JSONS, "model.safetensors", "chat_template.jinja"]))
        done = draw(st.sampled_from(["gone", "a folder", "a loop", "empty"]))
        return Checkpoint(f"{file}: {done}", file, how=done)
    if how == "weights":
        data = bytearray((good() / "model.safetensors").read_bytes())
        if draw(st.booleans()):
            at = draw(st.integers(0, 400))
            data[at : at + 1] = draw(st.binary(max_size=3))
        else:
            del data[draw(st.integers(0, len(data) - 1)) :]
        return Checkpoint("weights", "model.safetensors", bytes(data))
    if how == "field":
        file, name = draw(st.sampled_from(FIELDS))
        tree = json.loads(text(file)) | {name: draw(ODD)}
        return Checkpoint(f"{file}: {name} is {str(tree[name])[:30]!r}", file, json.dumps(tree).encode())
    file = draw(st.sampled_from([name for name in (*JSONS, "chat_template.jinja") if (good() / name).exists()]))
    if how == "text" or file.endswith("jinja"):
        return Checkpoint(f"{file}: text", file, draw(spoiled(text(file))))
    tree = json.loads(text(file))
    if how == "key":
        key = draw(st.sampled_from([k for k in tree]))
        del tree[key]
        return Checkpoint(f"{file}: {key} is gone", file, json.dumps(tree).encode())
    if file == "tokenizer.json":  # its many tokens are not the point
        key = draw(st.sampled_from(list(tree)))
        tree[key] = draw(ODD)
        return Checkpoint(f"{file}: {key} is {str(tree[key])[:30]!r}", file, json.dumps(tree).encode())
    tree, path = draw(replaced(tree))
    value = tree
    for key in path:
        value = value[key]
    return Checkpoint(f"{file}: {'.'.join(map(str, path))} is {str(value)[:30]!r}", file, json.dumps(tree).encode())


_names = st.one_of(
    st.sampled_from([text for text in ODD_TEXTS if text.strip() and text not in ("???", "..", "/", "~")]),
    st.text(min_size=1, max_size=8).filter(str.strip),
    st.tuples(st.sampled_from(ODD_TEXTS), st.sampled_from(ODD_TEXTS)).map("/".join),
    st.sampled_from(
        ["~nobody-at-all/x", "x" * 300, "a/" + "b" * 300, "https://huggingface.co/a/b", "a/b.git", "a/b@main", "/dev/null"]
    ),
)
everything = st.one_of(_checkpoints(), _checkpoints(), _names.map(lambda name: Checkpoint(f"path: {name!r}", path=name)))


def lay(folder: Path, made: Checkpoint) -> None:
    shutil.copytree(good(), folder / "mine")
    if made.path:
        return
    file = folder / "mine" / made.file
    if made.content is not None:
        file.write_bytes(made.content)
        return
    file.unlink(missing_ok=True)
    if made.how == "a folder":
        file.mkdir()
    elif made.how == "a loop":
        os.symlink(file.name, file)
    elif made.how == "empty":
        file.touch()


@cache
def warm() -> None:

    import opd_steps.steps._models
    import opd_steps.steps.model  # noqa: F401

    good()


def use(folder: Path, path: str = "") -> Outcome:
    """The model step on it, or on `path` where no hub can be reached; then what the next step does: load, render, answer one token, save."""
    warm()
    options = merge(KINDS["model"], {"kind": "model", "path": path or str(folder / "mine")}, "model")
    config = {
        "kind": "model",
        "options": {k: v for k, v in options.items() if k not in ("kind", "seed", "resources", "data")},
        "parents": {},
        "seed": 0,
    }
    out = folder / "results/p/model/m/seed0/manifest.json"

    def work() -> None:
        import huggingface_hub
        import torch

        from opd_steps.errors import one_line_errors
        from opd_steps.models.folder import load_model, load_tokenizer, save_model
        from opd_steps.models.lm_policy import LMPolicy
        from opd_steps.steps._main import main
        from opd_steps.steps.model import model
        from opd_steps.tasks.render import prompt_ids

        torch.set_num_threads(1)
        huggingface_hub.constants.HF_HUB_OFFLINE = True
        sys.argv = ["model", "--config", json.dumps(config), "--out", str(out)]
        main(model)
        with one_line_errors():
            loaded, tokenizer = load_model(out.parent, "float32"), load_tokenizer(out.parent)
            rows = LMPolicy(loaded, tokenizer, max_new_tokens=1).rollout([prompt_ids(tokenizer, "1+1=")], [0], [0], 0)
            assert rows.logp_N.isfinite().all(), "a log-probability that is none"
            save_model(loaded, tokenizer, folder / "results/again")

    return outcome(folder, work)


def examine(case: Checkpoint) -> str:
    """What is wrong with how the case is met, else ""."""
    with tempfile.TemporaryDirectory() as name:
        lay(Path(name), case)
        places = (UserError(case.path, "").where, "checkpoint") if case.path else ("/mine", case.file)
        return use(Path(name), case.path).fault(places)
