"""Fresh models: any causal architecture of transformers, made from a few config fields and a seed."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from opd_steps.errors import UserError
from opd_steps.models.fields import near, require_fields
from opd_steps.models.given import require_causal
from opd_steps.seeds import derive


def fresh_model(architecture: str, options: dict, tokenizer: PreTrainedTokenizerBase, seed: int) -> PreTrainedModel:
    """A randomly initialised fp32 model of transformers type `architecture`; its weights depend on `seed` and shapes alone.

    `options` are fields of the architecture's config. vocab_size defaults to the tokenizer's size; a larger one pads.
    Raises UserError on unknown fields and on values that make no model.
    """
    _check(architecture, options)
    size = options.get("vocab_size", len(tokenizer))
    if not isinstance(size, int) or size < len(tokenizer):
        raise UserError("config.vocab_size", f"expected at least the tokenizer's {len(tokenizer)}, found {size!r}")
    tokens = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    try:
        config = AutoConfig.for_model(architecture, **{**options, "vocab_size": size, **tokens})
        require_causal(config, "architecture")
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, "model"))
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    except UserError:
        raise
    except Exception as error:  # each architecture has its own way to fail on values that do not fit
        raise UserError("config", f"no {architecture} model with these values: {type(error).__name__}: {error}") from None


def _check(architecture: str, options: dict) -> None:
    if architecture not in CONFIG_MAPPING_NAMES:
        raise UserError("architecture", f"transformers has no '{architecture}'." + near(architecture, CONFIG_MAPPING_NAMES))
    require_fields(options, AutoConfig.for_model(architecture))
