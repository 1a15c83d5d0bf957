"""Checkpoints in the HF format: how every node stores its model, and how every node loads its parents'.

A model node's folder holds model/ (config, safetensors, tokenizer), or link.json when the weights lie elsewhere, or adapter/ and
base.json, which names the node that it stands on (models.bases).
"""

from __future__ import annotations

import json
import os
import re
import shutil
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from opd_steps.errors import NotFinite, UserError
from opd_steps.models.bases import ADAPTER, BASE, WEIGHTS, base_of, stacked
from opd_steps.models.ends import state_ends
from opd_steps.models.external import file_hashes, followed, has_tokenizer
from opd_steps.models.numerics import dtype_of
from opd_steps.process import ranks
from opd_steps.process.finite import not_finite
from opd_steps.store.files import write_json
from opd_steps.store.fingerprint import digest, file_sha256

MODEL, LINK = "model", "link.json"
Model = TypeVar("Model", bound=nn.Module)
_BUFFER = re.compile(r"rotary_emb\.inv_freq$|\bmasked_bias$")  # constants that old checkpoints hold and no model reads
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_TRACES = ("is_local", "local_files_only", "name_or_path")  # how a tokenizer was loaded: no part of what it is
# without an explicit no, transformers asks on the terminal whether to run a checkpoint's own code
_SAFELY = {"local_files_only": True, "trust_remote_code": False}
logging.disable_progress_bar()
logging.set_verbosity_error()  # what matters of its warnings becomes an error here


@cache
def where(folder: Path | str) -> str:
    """The path of a node's config, tokenizer and own weights: its model/, or what its link.json points at; of an adapter, all of the
    whole model under it (`weights_at` is for those who read weights as files).

    Raises UserError when it is gone, or when linked files are not those that the node recorded.
    """
    folder = Path(folder)
    if (folder / MODEL).is_dir():
        return str(folder / MODEL)
    if base := base_of(folder):
        return where(base)
    try:
        link = json.loads((folder / LINK).read_text())
    except FileNotFoundError:
        raise UserError(str(folder), f"holds no model: neither {MODEL}/ nor {LINK}") from None
    target = followed(link)
    now = file_hashes(target)
    for name, entry in link["files"].items():
        if now.get(name) != entry:
            raise UserError(
                str(target / name), f"changed since {folder} was made; delete {folder / 'manifest.json'}, run again"
            )
    return str(target)


def load_model(
    folder: Path | str,
    dtype: str | torch.dtype = "float32",
    attention: str | None = None,
    auto: type = AutoModelForCausalLM,
    own_code: bool = False,
) -> PreTrainedModel:
    """A node's model in eval mode, adapters merged into it, on the GPU if there is one; `attention`: transformers' name of an
    implementation; `auto`: its class that knows such models; `own_code`: run what the checkpoint brings. Safetensors only.

    Raises UserError.
    """
    path = where(folder)
    model = with_adapters(read_model(path, attention, auto, own_code, dtype=dtype).to(ranks.device()).eval(), folder)
    if name := not_finite(model.named_parameters()):
        raise NotFinite(path, f"the weight {name} is not finite")
    return model


def outline(folder: Path | str) -> PreTrainedModel:
    """A node's model with weights on the meta device, for those who ask it for everything but an output: only their names and shapes are
    read. Raises UserError."""
    return read_model(where(folder), device_map="meta").eval()


def with_adapters(model: Model, folder: Path | str) -> Model:
    """The model under a node's adapters, with all of them merged into it."""
    for adapter in stacked(Path(folder)):
        from opd_steps.models.adapters import merge_adapter  # peft takes a second to import

        merge_adapter(model, adapter)
    return model


def read_model(
    path: str, attention: str | None = None, auto: type = AutoModelForCausalLM, own_code: bool = False, **how
) -> PreTrainedModel:
    """The model in a checkpoint's own folder. Raises UserError unless its weights are those that its config describes: none is
    missing, left over or of another shape. `how`: of from_pretrained; `attention`: its name of an implementation, None: its choice.
    """
    how |= {"attn_implementation": attention} if attention else {}
    try:
        how |= _SAFELY | {"trust_remote_code": own_code}
        model, report = auto.from_pretrained(
            path, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True, **how
        )
    except Exception as error:  # each architecture has its own way to fail on values that do not fit
        raise UserError(path, f"cannot load this model: {_first_line(error)}") from None
    if report["mismatched_keys"]:
        name, found, expected = sorted(report["mismatched_keys"])[0]
        raise UserError(path, f"the weights do not fit config.json: {name} is {list(found)}, expected {list(expected)}")
    if report["missing_keys"]:
        raise UserError(path, f"the weights lack {sorted(report['missing_keys'])[0]}")
    if left := sorted(name for name in report["unexpected_keys"] if not _BUFFER.search(name)):
        raise UserError(path, f"the weights hold {left[0]}, which config.json has no place for ({len(left)} such in all)")
    _keep_what_can_be_saved(model, path)
    state_ends(model, path)
    return model


def _keep_what_can_be_saved(model: PreTrainedModel, path: str) -> None:
    """transformers loads sampling defaults that it refuses to save. Nothing here samples by them; the token ids stay."""
    found = getattr(model, "generation_config", None)  # what writes nothing from left to right has none
    try:
        if found is not None:
            found.validate(strict=True)
    except ValueError as error:
        model.generation_config = GenerationConfig(**{name: getattr(found, name) for name in _TOKEN_IDS})
        print(f"{path}: its generation config cannot be saved, its token ids are kept alone: {_first_line(error)}", flush=True)


def _first_line(error: Exception) -> str:
    """What an exception says, on one line."""
    said = f"KeyError: {error}" if isinstance(error, KeyError) else str(error)  # which says no more than the key
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] if lines else type(error).__name__


def load_tokenizer(folder: Path | str) -> PreTrainedTokenizerBase:
    """A node's tokenizer; one without a padding token pads with its end token."""
    return read_tokenizer(where(folder))


def read_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer in a checkpoint's own folder. Raises UserError when there is none, or it has no end token."""
    if not has_tokenizer(Path(path)):  # transformers would make up an empty one
        raise UserError(path, "no tokenizer files here")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **_SAFELY)
        _require_fields(tokenizer, Path(path))
        tokenizer("", add_special_tokens=False)  # some fields are first looked at when it is used
    except UserError:
        raise
    except Exception as error:  # each field of its files has its own way to fail; tokenizers raises bare Exception
        raise UserError(_broken_file(Path(path)), f"cannot load this tokenizer: {_first_line(error)}") from None
    if tokenizer.eos_token_id is None:
        raise UserError(path, "this tokenizer has no end token (eos_token)")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _require_fields(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Raises UserError for what transformers takes as it is, and what would fail, or lie, hours later."""
    if not isinstance(most := tokenizer.model_max_length, int | float):
        raise UserError(str(folder / "tokenizer_config.json"), f"model_max_length: expected a number, found {most!r}")
    found = tokenizer.chat_template
    templates = found.values() if isinstance(found, dict) else [] if found is None else [found]
    if not all(isinstance(template, str) for template in templates):
        raise UserError(str(folder), f"chat_template: expected text, or several texts by name, found {found!r}")
    core = getattr(tokenizer, "backend_tokenizer", None)
    if dropout := getattr(getattr(core, "model", None), "dropout", None):
        message = f"model.dropout is {dropout:g}, so it draws tokens at random: a text would never be the same ids"
        raise UserError(str(folder / "tokenizer.json"), message)


def _broken_file(folder: Path) -> str:
    """Which file of a tokenizer that does not load is to blame: tokenizer.json where it is none by itself, else the folder."""
    try:
        Tokenizer.from_file(str(file := folder / "tokenizer.json"))
    except Exception:
        return str(file) if file.exists() else str(folder)
    return str(folder / "tokenizer_config.json")


def weights_at(folder: Path | str, scratch: Path, dtype: str = "float32") -> str:
    """A path with the whole weights of a node's model, for those who load a checkpoint by themselves: `where`; of an adapter, a merged
    copy in `scratch`, made once."""
    if not stacked(folder := Path(folder)):
        return where(folder)
    named = json.loads((folder / BASE).read_text()) | {"adapter": file_sha256(folder / ADAPTER / WEIGHTS), "dtype": dtype}
    place = scratch / f"merged-{digest(named)[:12]}"
    if not place.is_dir():
        made = place.with_name(f"{place.name}.part")
        shutil.rmtree(made, ignore_errors=True)
        save_model(load_model(folder, dtype), load_tokenizer(folder), made)
        os.rename(made, place)
    return str(place)


def save_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path | str, dtype: str | None = None
) -> None:
    """Write model and tokenizer in the HF format, weights in `dtype` (None: as they are); equal weights give equal bytes, wherever they
    were loaded from.
    """
    weights = ranks.for_writing(model.state_dict(keep_vars=True)) if ranks.world() > 1 or dtype else None
    if not ranks.first():
        return
    if dtype:
        weights = _in(dtype_of(dtype), weights)
    model.save_pretrained(folder, state_dict=weights)
    if dtype:  # which it takes from the model itself
        file = Path(folder) / "config.json"
        write_json(file, json.loads(file.read_text()) | {"dtype": dtype})
    tokenizer.save_pretrained(folder)
    config = Path(folder) / "tokenizer_config.json"
    write_json(config, {k: v for k, v in json.loads(config.read_text()).items() if k not in _TRACES})


def _in(dtype: torch.dtype, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Floating-point ones in `dtype`; tied weights stay one tensor."""
    made = {id(w): w.detach().to(dtype) if w.is_floating_point() else w for w in weights.values()}
    return {name: made[id(w)] for name, w in weights.items()}
