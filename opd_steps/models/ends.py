"""End tokens: every one that the tokenizer, config.json or generation_config.json lists ends a row."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from opd_steps.errors import UserError


def end_ids(tokenizer: PreTrainedTokenizerBase, *stated: int | list[int] | None) -> tuple[int, ...]:
    """The tokenizer's end token and all `stated` ones (an eos_token_id each), in order, each once."""
    found = {tokenizer.eos_token_id}
    for ids in stated:
        found |= {ids} if isinstance(ids, int) else set(ids or ())
    return tuple(sorted(found))


def model_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The end tokens of a loaded model (`state_ends`)."""
    stated = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return end_ids(tokenizer, model.config.get_text_config().eos_token_id, stated)


def stated_ends(path: str | Path) -> list[int]:
    """What a checkpoint's own files list as eos_token_id; ids beyond its embedding can't be said and are left out.

    The files, not the config objects: an architecture has a default, which need not be a token that ends anything.
    Raises UserError for what is no token id.
    """
    found: set[int] = set()
    config, generation = (_read(Path(path) / name) for name in ("config.json", "generation_config.json"))
    parts = [("config.json", config), ("config.json", config.get("text_config")), ("generation_config.json", generation)]
    for name, part in parts:
        ids = (part or {}).get("eos_token_id")
        ids = [] if ids is None else ids if isinstance(ids, list) else [ids]
        if any(type(i) is not int or i < 0 for i in ids):
            raise UserError(str(Path(path) / name), f"eos_token_id: expected token ids, found {part['eos_token_id']!r}")
        found |= set(ids)
    vocab = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size")
    return sorted(i for i in found if vocab is None or i < vocab)


def _read(file: Path) -> dict:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(str(file), f"not readable: {error}") from None
    if not isinstance(values, dict):
        raise UserError(str(file), f"expected a JSON object, found {type(values).__name__}")
    return values


def state_ends(model: PreTrainedModel, path: str | Path) -> None:
    """Give a loaded model the end tokens that its files list, so that what is saved of it lists them too."""
    ends = stated_ends(path)
    stated = ends[0] if len(ends) == 1 else ends or None
    model.config.get_text_config().eos_token_id = stated
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.eos_token_id = stated
