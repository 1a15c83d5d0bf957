"""How many tokens a model can read."""

from __future__ import annotations

from transformers import PreTrainedConfig

_STRETCHED = ("linear", "dynamic", "yarn")  # rope types whose factor is not yet in max_position_embeddings


def positions(config: PreTrainedConfig) -> int | None:
    """max_position_embeddings, times the factor of a stretched RoPE; None where the architecture has no limit (ALiBi, recurrent)."""
    text = config.get_text_config()
    most = getattr(text, "max_position_embeddings", None)
    if not isinstance(most, int) or most < 1:
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") in _STRETCHED and rope.get("factor"):
        most = max(most, int((rope.get("original_max_position_embeddings") or most) * rope["factor"]))
    return most
