"""Checkpoints with code of their own, in LLaDA's form."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase
from transformers.dynamic_module_utils import get_class_from_dynamic_module

CODE = Path(__file__).parent / "own_code/modeling_llada.py"
MASK = "<|mdm_mask|>"


def write_llada(folder: Path, tokenizer: PreTrainedTokenizerBase, seed: int = 0, **shape: int) -> Path:
    """A random model that predicts `tokenizer`, with the mask that it gets here, as LLaDA's is published: code, config that names it,
    weights in bf16.
    """
    folder.mkdir(parents=True)
    shutil.copy(CODE, folder)
    tokenizer = copy.deepcopy(tokenizer)  # tests share some
    tokenizer.add_tokens([MASK], special_tokens=True)
    named = {"AutoConfig": "LLaDAConfig", "AutoModel": "LLaDAModelLM", "AutoModelForCausalLM": "LLaDAModelLM"}
    of = lambda name: get_class_from_dynamic_module(f"{CODE.stem}.{name}", str(folder))
    torch.manual_seed(seed)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = of("LLaDAModelLM")(of("LLaDAConfig")(vocab_size=len(tokenizer) + 3, **ends, **shape))
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    auto = {auto: f"{CODE.stem}.{name}" for auto, name in named.items()}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": auto}))
    return folder
