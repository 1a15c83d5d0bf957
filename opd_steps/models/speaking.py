"""A checkpoint that takes another's tokenizer, chat template and end tokens: a base model that is to speak as the chat model that teaches it.

Base checkpoints of a family often end a text with another token than its chat models do, and know no template.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from opd_steps.errors import UserError
from opd_steps.models.ends import end_ids, stated_ends
from opd_steps.models.folder import load_tokenizer, where
from opd_steps.models.given import GENERATION
from opd_steps.models.tokenizers import vocab_digest
from opd_steps.store.files import write_json


def write_speaking(folder: Path, own: PreTrainedTokenizerBase, other: Path, made: Path) -> PreTrainedTokenizerBase:
    """Write into `made` the checkpoint at `folder`, its weights as links, with what the model node at `other` speaks; its new tokenizer.

    `own`: the checkpoint's. Raises UserError where a token id means another text there.
    """
    tokenizer = load_tokenizer(other)
    if vocab_digest(tokenizer) != vocab_digest(own):
        raise UserError("speaks", f"{folder} and {other} have different vocabularies: only templates and end tokens may differ")
    ends = list(end_ids(tokenizer, stated_ends(where(other))))
    made.mkdir(parents=True)
    for file in sorted(folder.glob("*.safetensors*")):
        os.symlink(file.resolve(), made / file.name)
    for name in ("config.json", GENERATION):
        if (folder / name).is_file():
            write_json(made / name, json.loads((folder / name).read_text()) | {"eos_token_id": ends})
    tokenizer.save_pretrained(made)
    return tokenizer
