"""Fields of transformers' configs: which may be set, for transformers takes any."""

from __future__ import annotations

import difflib
import inspect

from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from opd_steps.errors import UserError

_OURS = {"pad_token_id", "eos_token_id", "bos_token_id", "dtype", "transformers_version", "architectures", "_name_or_path"}

# by model_type: what models look for, or a config takes in, that has no such field
_UNDECLARED = {"siglip_vision_model": {"vision_use_head"}, "modernbert": {"global_attn_every_n_layers"}}


def require_fields(options: dict, known: PreTrainedConfig, key: str = "config") -> None:
    """Raises UserError for a field that configs of the kind of `known` have not, nor those within them: transformers would take it."""
    names = _fields(known)
    for name, value in options.items():
        if name not in names:
            raise UserError(f"{key}.{name}", f"{known.model_type} has no such field that may be set." + near(name, names))
        if name in known.sub_configs and isinstance(value, dict):
            require_fields(value, _within(known, name, value, f"{key}.{name}"), f"{key}.{name}")


def _within(known: PreTrainedConfig, name: str, value: dict, key: str) -> PreTrainedConfig:
    """A config of the kind that `value` describes, where `known` has it."""
    own = getattr(known, name)
    if (kind := value.get("model_type", own.model_type)) == own.model_type:
        return type(own)()
    if kind not in CONFIG_MAPPING_NAMES:
        raise UserError(f"{key}.model_type", f"transformers has no '{kind}'." + near(str(kind), CONFIG_MAPPING_NAMES))
    return AutoConfig.for_model(kind)


def _fields(config: PreTrainedConfig) -> set[str]:
    rope = {"rope_theta"} if "rope_parameters" in config.to_dict() else set()  # taken in by rope_parameters
    own = set(config.to_dict()) | set(inspect.signature(type(config)).parameters) | set(config.attribute_map)
    return (own | rope | _UNDECLARED.get(config.model_type, set())) - _OURS


def near(name: str, known) -> str:
    found = difflib.get_close_matches(name, list(known), 1)
    return f" Did you mean '{found[0]}'?" if found else ""
