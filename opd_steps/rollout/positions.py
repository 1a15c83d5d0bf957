"""How many tokens a model can read."""

from __future__ import annotations

from transformers import PreTrainedConfig

_NAMES = ("max_position_embeddings", "n_positions", "n_ctx")  # as transformers' configs call them
_STRETCHED = ("linear", "dynamic")  # rope types whose factor is not yet in max_position_embeddings, as vLLM reads configs too


def positions(config: PreTrainedConfig) -> int | None:
    """max_position_embeddings, times the factor of a stretched RoPE; None where the architecture has no limit (ALiBi, recurrent)."""
    text = config.get_text_config()
    most = next((size for name in _NAMES if (size := getattr(text, name, None))), None)
    if not isinstance(most, int):
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") in _STRETCHED and rope.get("factor"):
        most = int(most * rope["factor"])
    return most
