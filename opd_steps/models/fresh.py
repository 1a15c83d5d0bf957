"""Fresh models: any causal architecture of transformers, made from a few config fields and a seed."""

from __future__ import annotations

import difflib
import inspect

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from opd_steps.errors import UserError
from opd_steps.models.given import require_causal
from opd_steps.seeds import derive

_OURS = {"pad_token_id", "eos_token_id", "bos_token_id", "dtype", "transformers_version", "architectures", "_name_or_path"}

_UNDECLARED = {
    "siglip_vision_model": {"vision_use_head"}
}  # by model_type: what models look for in a config without such a field


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
        raise UserError("architecture", f"transformers has no '{architecture}'." + _near(architecture, CONFIG_MAPPING_NAMES))
    require_fields(options, AutoConfig.for_model(architecture))


def require_fields(options: dict, known: PreTrainedConfig, key: str = "config") -> None:
    """Raises UserError for a field that configs of the kind of `known` have not, nor those within them: transformers would take it."""
    names = _fields(known)
    for name, value in options.items():
        if name not in names:
            raise UserError(f"{key}.{name}", f"{known.model_type} has no such field that may be set." + _near(name, names))
        if name in known.sub_configs and isinstance(value, dict):
            require_fields(value, _within(known, name, value, f"{key}.{name}"), f"{key}.{name}")


def _within(known: PreTrainedConfig, name: str, value: dict, key: str) -> PreTrainedConfig:
    """A config of the kind that `value` describes, where `known` has it."""
    own = getattr(known, name)
    if (kind := value.get("model_type", own.model_type)) == own.model_type:
        return type(own)()
    if kind not in CONFIG_MAPPING_NAMES:
        raise UserError(f"{key}.model_type", f"transformers has no '{kind}'." + _near(str(kind), CONFIG_MAPPING_NAMES))
    return AutoConfig.for_model(kind)


def _fields(config: PreTrainedConfig) -> set[str]:
    rope = {"rope_theta"} if "rope_parameters" in config.to_dict() else set()  # taken in by rope_parameters
    own = set(config.to_dict()) | set(inspect.signature(type(config)).parameters) | set(config.attribute_map)
    return (own | rope | _UNDECLARED.get(config.model_type, set())) - _OURS


def _near(name: str, known) -> str:
    found = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean '{found[0]}'?" if found else ""
